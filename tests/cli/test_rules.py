"""`sentinel rules`: the catalogue at hand."""

from __future__ import annotations

import pytest

from sentinel.rules.load import load_rules

BROKEN = """\
id: never-right
title: A rule that does not do as it says
scope: content
severity: warning
safety: certain
since: 1.0.0
page: {what: What., why: Why., fix: Fix.}
query: SELECT tensor_count FROM checkpoint
when: tensor_count < 100
message: too few
examples:
  - {name: few, fires: true, tables: {checkpoint: [{tensor_count: 2}]}}
  - {name: a claim, fires: false, tables: {checkpoint: [{tensor_count: 2}]}}
"""


def test_list_is_a_line_a_rule(sentinel):
    """Under the names of the columns every rule of the catalogue, in a pipe one line each."""
    ran = sentinel("rules", "list")

    head, *lines = ran.out.splitlines()
    assert head.split() == ["rule", "severity", "safety", "scope", "title"]
    assert [line.split()[0] for line in lines] == sorted(rule.id for rule in load_rules())
    assert ran.code == 0


@pytest.mark.parametrize("rule", load_rules(), ids=lambda rule: rule.id)
def test_show_tells_what_to_do(sentinel, rule):
    """Every rule's page says what it finds, why that matters and what to do."""
    ran = sentinel("rules", "show", rule.id)

    assert ran.out.startswith(f"## {rule.id}\n")
    for part in ("What it finds: ", "Why that matters: ", "What to do: "):
        assert part in ran.out


def test_test_runs_every_example(sentinel, here):
    """The bundled rules do as they say; an example that does not is named, with exit code 1."""
    (here / "own.yaml").write_text(BROKEN)
    bundled = sum(len(rule.examples) for rule in load_rules())

    ran = sentinel("rules", "test", "--rules", "own.yaml")

    failed, summary = ran.out.splitlines()
    assert failed.startswith("never-right: a claim: ")
    assert summary == f"{bundled + 1} passed, 1 failed"
    assert ran.code == 1


def test_ones_own_rules_are_listed_and_shown(sentinel, here):
    """--rules counts for every subcommand."""
    (here / "own.yaml").write_text(BROKEN)

    assert "never-right" in sentinel("rules", "list", "--rules", "own.yaml").out
    assert "A rule that does" in sentinel("rules", "show", "never-right", "--rules", "own.yaml").out
