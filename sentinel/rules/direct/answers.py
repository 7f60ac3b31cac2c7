"""What a rule's predicate counts, computed directly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.rules.counts import Counts
from sentinel.rules.direct.column import as_truth, is_false, is_true
from sentinel.rules.direct.computing import compute
from sentinel.rules.direct.given import Given
from sentinel.rules.direct.queries import expression_of, query_of
from sentinel.rules.direct.relation import Relation
from sentinel.rules.direct.selecting import Runner
from sentinel.rules.direct.syntax import NotDirect
from sentinel.rules.sql import source_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from sentinel.rules.direct.column import Column
    from sentinel.rules.schema import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The rows a rule judges, and which of them it cannot decide."""

    counts: Counts
    source: Relation
    undecided: NDArray[np.bool_]

    def unknown_columns(self, named: frozenset[str]) -> list[str] | None:
        """Return which of the named columns are NULL in an undecided row, None if not known."""
        rows = self.source.only(self.undecided)
        try:
            return [
                one.name
                for one in rows.columns
                if one.name is not None and one.name in named and not one.column().known.all()
            ]
        except NotDirect:
            return None


class Direct:
    """Answers rules about the tables of one checkpoint, those that can be answered directly."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        self._given = Given(tables)

    def add(self, name: str, table: pa.Table) -> None:
        """Put rows into a table that was not known before."""
        self._given.add(name, table)

    def answer(self, rule: Rule) -> Answer | None:
        """Return what a rule counts, None where the database must be asked."""
        query, where, when = (
            query_of(source_of(rule)),
            expression_of(rule.where),
            expression_of(rule.when),
        )
        if query is None or where is None or when is None:
            return None
        runner = Runner(self._given.table, rule.parameters)
        try:
            source = runner.run(query)
            scope = runner.scope(source)
            in_scope = as_truth(compute(where, scope))
            # Rows that are out of scope count for nothing, whatever could be said of them.
            rows = source.only(~is_false(in_scope))
            return _answer(
                in_scope.take(~is_false(in_scope)), compute(when, runner.scope(rows)), rows
            )
        except (NotDirect, *_MISREAD):
            return None


# A function with too few arguments, a parameter that is not there, brackets without an end: what
# is wrong with such a rule is said best by DuckDB.
_MISREAD = (LookupError, RecursionError, TypeError, ValueError)


def _answer(in_scope: Column, is_bad: Column, source: Relation) -> Answer:
    bad, good, unknown = is_true(as_truth(is_bad)), is_false(is_bad), ~is_bad.known
    inside, maybe = is_true(in_scope), ~in_scope.known
    counts = (
        int(np.count_nonzero(scope & kind))
        for scope in (inside, maybe)
        for kind in (bad, good, unknown)
    )
    return Answer(Counts(*counts), source, maybe | (inside & unknown))
