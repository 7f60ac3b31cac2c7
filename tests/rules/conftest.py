"""Rules and tables made in memory for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sentinel.rules.evaluate import Evaluation, evaluate
from sentinel.rules.examples import rows_to_table
from sentinel.rules.rule import Rule
from sentinel.rules.schema import read_rule

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = {
    "id": "a-rule",
    "title": "A rule",
    "scope": "content",
    "severity": "critical",
    "safety": "certain",
    "since": "0.1.0",
    "page": {"what": "What.", "why": "Why.", "fix": "Fix."},
    "table": "tensors",
    "when": "zero_count = numel",
    "message": "{hits} of {rows}",
    "examples": [
        {"name": "bad", "fires": True, "tables": {"tensors": [{"numel": 1, "zero_count": 1}]}},
        {"name": "good", "fires": False, "tables": {"tensors": [{"numel": 1, "zero_count": 0}]}},
    ],
}


@pytest.fixture
def make_rule() -> Callable[..., Rule]:
    """Return a maker of rules: a plain one over `tensors` with some keys changed."""

    def make(**changes: object) -> Rule:
        given = {**PLAIN, **changes}
        if "query" in changes:
            del given["table"]
        return read_rule(given)

    return make


@pytest.fixture
def ask(make_rule: Callable[..., Rule]) -> Callable[..., Evaluation]:
    """Return an asker: tables as sparse rows, and the keys of the one rule to ask."""

    def ask(tables: Mapping[str, list[dict[str, Any]]], **changes: object) -> Evaluation:
        return evaluate((make_rule(**changes),), as_tables(tables))

    return ask


def as_tables(tables: Mapping[str, list[dict[str, Any]]]) -> dict[str, pa.Table]:
    return {name: rows_to_table(name, rows) for name, rows in tables.items()}


@pytest.fixture
def write_rule(tmp_path: Path) -> Callable[[str], Path]:
    """Return a writer of rule files: the text of a good one with a piece of it replaced."""

    def write(old: str = "", new: str = "", *, name: str = "mine.yaml") -> Path:
        assert old in GOOD
        path = tmp_path / name
        path.write_text(GOOD.replace(old, new, 1) if old else GOOD, encoding="utf-8")
        return path

    return write


GOOD = """\
id: my-rule
title: Many zeros
scope: content
severity: warning
safety: likely
since: 0.1.0
page:
  what: What.
  why: Why.
  fix: Fix.
table: pairs
where: zero_side_numel > 0
when: |
  zero_side_zero_count
    > $share * zero_side_numel
names: zero_side
parameters:
  share: 5e-1
facts:
  rank: max(rank)
message: '{hits} modules of rank {rank}'
examples:
  - name: fires
    fires: true
    tables:
      pairs: [{zero_side: a, zero_side_numel: 4, zero_side_zero_count: 3, rank: 8}]
  - name: quiet
    fires: false
    tables:
      pairs: [{zero_side: a, zero_side_numel: 4, zero_side_zero_count: 0}]
"""
