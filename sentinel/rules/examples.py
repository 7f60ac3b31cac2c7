"""Running the examples of a rule: the same code for pytest and for `sentinel rules test`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sentinel.rules.evaluate import Evaluation, evaluate
from sentinel.rules.past import Before, Past
from sentinel.rules.rule import Cell, Example, Rule
from sentinel.rules.tables import GIVEN, PAST, PAST_TABLES

_ARROW: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BIGINT[]": pa.list_(pa.int64()),
}


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """Whether a rule said of an example what the example wants; ``detail`` is what it said."""

    rule: str
    example: str
    passed: bool
    detail: str


def check_examples(rule: Rule) -> list[ExampleResult]:
    """Evaluate every example of a rule and compare."""
    return [_check(rule, example) for example in rule.examples]


def example_tables(example: Example) -> dict[str, pa.Table]:
    """Return the tables of an example as Arrow tables with every declared column."""
    return {name: rows_to_table(name, rows) for name, rows in example.tables.items()}


def rows_to_table(name: str, rows: list[dict[str, Cell]]) -> pa.Table:
    """Return sparse rows as one of the tables the rules see; absent columns are NULL."""
    columns = PAST_TABLES.get(name) or GIVEN[name.removeprefix("prev_")]
    return pa.Table.from_pylist(
        rows, schema=pa.schema([(column, _ARROW[kind]) for column, kind in columns.items()])
    )


def _check(rule: Rule, example: Example) -> ExampleResult:
    try:
        tables = example_tables(example)
    except pa.ArrowException as error:
        return ExampleResult(rule.id, example.name, passed=False, detail=str(error))
    evaluation = evaluate((rule,), tables, _past(rule, example, tables))
    return ExampleResult(
        rule.id, example.name, _as_wanted(rule, example, evaluation), _said(evaluation)
    )


def _past(rule: Rule, example: Example, tables: Mapping[str, pa.Table]) -> Past:
    """Return the past an example describes: the `prev_` tables, and how long the rule held."""
    before = {name: tables[f"prev_{name}"] for name in PAST if f"prev_{name}" in tables}
    holding = frozenset({rule.id})
    deep = tuple(Before({}, holding) for _ in range(example.held - 1))
    newest = Before(before, holding if example.held else frozenset())
    return (newest, *deep) if before or example.held else ()


def _as_wanted(rule: Rule, example: Example, evaluation: Evaluation) -> bool:
    found = next((found for found in evaluation.findings if found.rule == rule.id), None)
    failed = any(found.rule != rule.id for found in evaluation.findings)
    reasons = [unknown.reason for unknown in evaluation.not_evaluated]
    if failed or bool(found) != example.fires or bool(reasons) != bool(example.not_evaluated):
        return False
    if found is None:
        return all((example.not_evaluated or "") in reason for reason in reasons)
    return (
        example.severity in (None, found.severity)
        and (example.message_contains or "") in found.message
    )


def _said(evaluation: Evaluation) -> str:
    findings = [
        f"{found.rule} ({found.severity}): {found.message}" for found in evaluation.findings
    ]
    unknown = [f"not evaluated: {missing.reason}" for missing in evaluation.not_evaluated]
    return "; ".join([*findings, *unknown]) or "quiet"
