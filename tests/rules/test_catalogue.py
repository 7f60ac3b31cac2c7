"""The bundled catalogue: every rule says of its own examples what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from seen import page as seen
from sentinel.rules.evaluate import evaluate
from sentinel.rules.examples import check_examples, example_tables
from sentinel.rules.files import FOLDERS, catalogue
from sentinel.rules.load import load_rules
from sentinel.rules.pages import RULE_SCHEMA, RULES_PAGE, render_page, render_schema
from sentinel.rules.rule import Rule

RULES = {rule.id: rule for rule in load_rules()}
FILES = sorted(path for folder in FOLDERS for path in (catalogue() / folder).glob("*.yaml"))
DOCS = Path(__file__).parents[2] / "docs"
GOLDENS = Path(__file__).parent / "goldens"

# Repairs, recipes, policies and users name these: they may not disappear.
PROMISED = {
    "dead-lora-up",
    "partly-dead-lora-up",
    "dead-lora-down",
    "nan-values",
    "inf-values",
    "dtype-mismatch-base",
    "mixed-dtypes",
    "norm-explosion",
    "stalled-updates",
    "unchanged-checkpoint",
    "loss-not-finite",
    "loss-zero",
    "malformed-file",
    "truncated-file",
    "missing-shard",
    "unreadable-file",
    "unknown-layout",
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_examples_come_out_as_they_say(rule: Rule) -> None:
    """Each example fires, stays quiet, or is not evaluated, as its author wrote."""
    failed = [result for result in check_examples(rule) if not result.passed]

    assert failed == []


def test_a_wrong_example_is_seen(make_rule) -> None:
    """The check of examples can fail: a rule that never fires fails its firing example."""
    rule = make_rule(when="false")

    assert [result.passed for result in check_examples(rule)] == [False, True]


def test_the_sql_of_every_rule_fits_the_tables() -> None:
    """Bundled SQL is not checked at each load, so it is checked here."""
    load_rules(check_bundled=True)


def test_promised_ids_are_there() -> None:
    """Ids are an interface."""
    assert set() == PROMISED - RULES.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_rule_lies_where_its_id_and_scope_say(path: Path) -> None:
    """A reader finds a rule by its id, and run rules apart from those that judge bytes."""
    rule = RULES[path.stem]

    assert (rule.scope == "run") == (path.parent.name == "run")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_editors_accept_every_bundled_rule(path: Path) -> None:
    """The JSON Schema for editors says the same as the loader."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))

    jsonschema.validate(content, json.loads(render_schema()))


def test_every_fault_has_a_rule() -> None:
    """A fault without a rule of its own is reported by `unlisted-fault`, and by it only."""
    listed = {path.stem for path in FILES if path.parent.name == "file"}
    own = listed - {"unlisted-fault", "incomplete-checkpoint"}

    assert own == {fault for fault in own if f"'{fault}'" in RULES["unlisted-fault"].where}


def test_no_safe_rule_rests_on_a_threshold() -> None:
    """`certain` lets sentinel act alone: such a rule has no parameter that decides if it fires."""
    tuned = {rule.id for rule in RULES.values() if rule.safety == "certain" and rule.parameters}

    assert {"unchanged-checkpoint"} == tuned  # below its ten updates it is only a warning


def test_the_page_is_up_to_date() -> None:
    """docs/rules.md and the JSON Schema are what `python docs/generate.py` writes."""
    assert render_page(load_rules(), seen.lines()) == (DOCS / RULES_PAGE).read_text(
        encoding="utf-8"
    )
    assert json.loads(render_schema()) == json.loads((DOCS / RULE_SCHEMA).read_text())


def test_messages_read_as_they_did(update_goldens: bool) -> None:  # noqa: FBT001 - a fixture
    """The sentence of each first firing example, whole, as a person reads it."""
    lines = []
    for rule in RULES.values():
        example = next(example for example in rule.examples if example.fires)
        (found,) = evaluate((rule,), example_tables(example)).findings
        lines.append(f"{found.rule} [{found.severity}] {found.message}")
    golden = GOLDENS / "messages.txt"
    if update_goldens:
        golden.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")

    assert golden.read_text(encoding="utf-8").splitlines() == lines
