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
from sentinel.rules.direct.selecting import Runner, keeps_order
from sentinel.rules.direct.syntax import Item, Name, NotDirect, aggregates
from sentinel.rules.sql import source_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from sentinel.rules.rule import Rule


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The rows a rule judges, and which of them it cannot decide."""

    counts: Counts
    source: Relation
    undecided: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    runner: Runner
    in_order: bool
    """Whether the database would give the rows in the same order."""

    def hits(self, expressions: Mapping[str, str]) -> dict[str, object] | None:
        """Return what aggregates say of the bad rows, None where the database must be asked."""
        trees = {name: expression_of(text) for name, text in expressions.items()}
        items = tuple(Item(tree, name) for name, tree in trees.items() if tree is not None)
        is_one_row = all(one.expression and aggregates(one.expression) for one in items)
        if len(items) < len(expressions) or not is_one_row or not self.in_order:
            return None
        try:
            found = self.runner.grouped(items, self.source.only(self.bad))
            return {str(one.name): one.column().to_plain()[0] for one in found.columns}
        except (NotDirect, *_MISREAD):
            return None

    def listed(self, column: str | None) -> list[tuple[object, object]] | None:
        """Return of each bad row the value of a column and its part, in their order."""
        rows = self.source.only(self.bad)
        if not self.in_order:
            return None
        try:
            known = {one.name for one in rows.columns}
            named = column.lower() if column else "tensor"
            values = (rows.find(Name(name)) if name in known else None for name in (named, "part"))
            none = [None] * rows.length
            lists = (none if one is None else one.to_plain() for one in values)
            return list(zip(*lists, strict=True))
        except NotDirect:
            return None

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
            is_bad = as_truth(compute(when, runner.scope(rows)))
            in_scope = in_scope.take(~is_false(in_scope))
        except (NotDirect, *_MISREAD):
            return None
        bad, good, unknown = is_true(is_bad), is_false(is_bad), ~is_bad.known
        inside, maybe = is_true(in_scope), ~in_scope.known
        counts = (
            int(np.count_nonzero(scoped & kind))
            for scoped in (inside, maybe)
            for kind in (bad, good, unknown)
        )
        return Answer(
            counts=Counts(*counts),
            source=rows,
            undecided=maybe | (inside & unknown),
            bad=inside & bad,
            runner=runner,
            in_order=keeps_order(query),
        )


# A function with too few arguments, a parameter that is not there, brackets without an end: what
# is wrong with such a rule is said best by DuckDB.
_MISREAD = (LookupError, RecursionError, TypeError, ValueError)
