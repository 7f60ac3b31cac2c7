"""Rules that saw only a part of the numbers: what they did not find is not known to be good."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sentinel.rules import sql
from sentinel.verdict import NotEvaluated

if TYPE_CHECKING:
    from sentinel.rules.evaluate import Evaluation
    from sentinel.rules.rule import Rule


def with_unmeasured(
    evaluation: Evaluation,
    rules: Sequence[Rule],
    columns: Mapping[str, frozenset[str]],
    unread: frozenset[str],
) -> Evaluation:
    """Return what the rules said, those that passed without their numbers as not evaluated.

    ``columns`` are those that were not measured in every row, by table; ``unread`` are tables
    that were not made although there is something to make them from.
    """
    fired = {finding.rule for finding in evaluation.findings}
    told = {missed.rule: missed for missed in evaluation.not_evaluated}
    for rule in rules:
        why = None if rule.id in fired else _why(rule, columns, unread)
        if why is not None:
            told[rule.id] = NotEvaluated(rule.id, why)
    return replace(evaluation, not_evaluated=tuple(told.values()))


def _why(rule: Rule, columns: Mapping[str, frozenset[str]], unread: frozenset[str]) -> str | None:
    tables = sql.named_tables(rule)
    if unread & tables:
        return "the values of the optimizer were not read by this scan"
    words = sql.words("\n".join((rule.query or "", rule.where, rule.when)))
    missed = {
        name
        for table, names in columns.items()
        if table in tables or f"past_{table}" in tables
        for name in names & words
    }
    # `min` and `max` are mostly functions; as columns they stand alone.
    missed -= {name for name in ("min", "max") if not _is_column(name, rule)}
    if not missed:
        return None
    listed = ", ".join(f"'{name}'" for name in sorted(missed))
    return f"this scan did not measure {listed} of everything"


def _is_column(name: str, rule: Rule) -> bool:
    """Tell whether a name stands somewhere in a rule without being called."""
    text = "\n".join((rule.query or "", rule.where, rule.when))
    return re.search(rf"\b{name}\b(?!\s*\()", text) is not None
