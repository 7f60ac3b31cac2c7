"""Running queries over the tables of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from sentinel.rules.direct.aggregates import groups_by, one_group
from sentinel.rules.direct.column import Column, is_true
from sentinel.rules.direct.computing import Scope, compute, ordered
from sentinel.rules.direct.relation import (
    Lazy,
    Relation,
    equal_join,
    product,
    stacked,
)
from sentinel.rules.direct.syntax import (
    Call,
    Expression,
    Item,
    Literal,
    Name,
    NotDirect,
    Operation,
    Query,
    Select,
    Source,
    windows,
)

Parameters = Mapping[str, bool | int | float | str]


class Runner:
    """Runs queries; a named query is run once, when it is asked for."""

    def __init__(self, table: Callable[[str], Relation], parameters: Parameters) -> None:
        self._table = table
        self._parameters = parameters

    def run(self, query: Query) -> Relation:
        """Return the rows of a query; raises NotDirect where it is left to the database."""
        if query.named:
            (name, named), *rest = query.named
            return self._with(name, named).run(replace(query, named=tuple(rest)))
        parts = [self._select(select) for select in query.selects]
        found = parts[0] if len(parts) == 1 else stacked(parts)
        return found if query.limit is None else self._limited(query, found)

    def grouped(self, items: tuple[Item, ...], relation: Relation) -> Relation:
        """Return the one row of a SELECT of aggregates over a relation."""
        return self._grouped(Select(items, (), grouped=True), relation, {})

    def scope(self, relation: Relation) -> Scope:
        """Return a scope for expressions over a relation."""
        return Scope(relation, self._parameters, self.run)

    def _with(self, name: str, query: Query) -> Runner:
        found: list[Relation] = []

        def table(wanted: str) -> Relation:
            if wanted != name:
                return self._table(wanted)
            if not found:
                found.append(self.run(query))
            return found[0]

        return Runner(table, self._parameters)

    def _limited(self, query: Query, found: Relation) -> Relation:
        if not query.order:
            raise NotDirect
        (limit,) = compute(query.limit or Literal(None), self.scope(_ONE)).to_list()
        rows = ordered(np.arange(found.length, dtype=np.intp), query.order, self.scope(found))
        rows = rows[: int(limit)]
        return found.take(rows)

    def _select(self, select: Select) -> Relation:
        relation = self._joined(select.sources)
        if len(select.items) == 1 and _unnested(select.items[0]) is not None:
            return self._unnested(select, relation)
        aliases = {
            item.alias: item.expression for item in select.items if item.alias and item.expression
        }
        if select.where is not None and relation.length:
            scope = Scope(relation, self._parameters, self.run, aliases)
            relation = relation.only(is_true(compute(select.where, scope)))
        if not select.grouped:
            if select.having is not None:
                raise NotDirect
            found = self._listed(
                select, relation, Scope(relation, self._parameters, self.run, aliases)
            )
        else:
            found = self._grouped(select, relation, aliases)
        return _distinct(found) if select.distinct else found

    def _unnested(self, select: Select, relation: Relation) -> Relation:
        """Return the elements of a list, one a row."""
        elements = _unnested(select.items[0])
        if elements is None or replace(select, items=(), sources=()) != Select((), ()):
            raise NotDirect
        scope, name = self.scope(relation), select.items[0].alias
        parts = (Lazy(name, None, partial(compute, one, scope)) for one in elements)
        return stacked([Relation(relation.length, (part,)) for part in parts])

    def _grouped(
        self, select: Select, relation: Relation, aliases: Mapping[str, Expression]
    ) -> Relation:
        keys = tuple(
            aliases.get(key.name, key)
            if isinstance(key, Name) and key.table is None and relation.find(key) is None
            else key
            for key in select.groups or ()
        )
        plain = Scope(relation, self._parameters, self.run, aliases)
        if select.groups is None:
            groups = one_group(relation.length)
        elif relation.length:
            groups = groups_by([compute(key, plain) for key in keys], relation.length)
        else:
            groups = groups_by([Column("null", _NONE, _NONE)], 0)
        scope = Scope(relation, self._parameters, self.run, aliases, groups, keys)
        found = self._listed(select, Relation(len(groups.rows), ()), scope)
        if select.having is None or not found.length:
            return found
        return found.only(is_true(compute(select.having, scope)))

    def _listed(self, select: Select, relation: Relation, scope: Scope) -> Relation:
        if select.items == _ALL and scope.groups is None:
            return relation
        columns: list[Lazy] = []
        for item in select.items:
            columns += self._columns(item, relation, scope)
        return Relation(relation.length, tuple(columns))

    def _columns(self, item: Item, relation: Relation, scope: Scope) -> list[Lazy]:
        if item.expression is not None:
            named = item.expression.name if isinstance(item.expression, Name) else None
            return [Lazy(item.alias or named, None, partial(compute, item.expression, scope))]
        if scope.groups is not None:
            raise NotDirect
        return [one for one in relation.columns if item.table in (None, one.table)]

    def _joined(self, sources: tuple[Source, ...]) -> Relation:
        found = _ONE
        for place, source in enumerate(sources):
            if place and not found.length:
                break  # nothing is joined to nothing, and nobody asks for its columns
            one = self._source(source)
            found = one if not place else self._join(found, one, source)
        return found

    def _source(self, source: Source) -> Relation:
        if isinstance(source.origin, str):
            return self._table(source.origin).named(source.alias or source.origin)
        return self.run(source.origin).named(source.alias)

    def _join(self, first: Relation, second: Relation, source: Source) -> Relation:
        if source.join == "cross":
            return product(first, second)
        if source.using:
            return self._used(first, second, source)
        parts = _conjuncts(source.on)
        equalities = [part for part in parts if self._key(part, first, second) is not None]
        for part in parts:
            if part not in equalities and second.length:
                # It says something of the second alone, and is asked before rows are paired.
                second = second.only(is_true(compute(part, self.scope(second))))
        keys = [key for part in equalities if (key := self._key(part, first, second))]
        if keys:
            return equal_join(first, second, keys, keep_left=source.join == "left")
        if source.join == "left" and not second.length:
            return _alone(first, second)
        return product(first, second)

    def _key(
        self, equality: Expression, first: Relation, second: Relation
    ) -> tuple[Column, Column] | None:
        """Return the columns of an equality between two relations, None where it is no such."""
        if not isinstance(equality, Operation) or equality.kind != "=":
            return None
        found: list[Column | None] = [None, None]
        for operand in equality.operands:
            if not isinstance(operand, Name):
                return None
            sides = [side.find(operand) for side in (first, second)]
            place = 0 if sides[0] is not None else 1
            if (sides[0] is None) == (sides[1] is None) or found[place] is not None:
                raise NotDirect
            found[place] = sides[place]
        mine, other = found
        return None if mine is None or other is None else (mine, other)

    def _used(self, first: Relation, second: Relation, source: Source) -> Relation:
        """Join by columns of one name, which stand in the outcome once."""
        keys = []
        for name in source.using:
            mine, other = first.find(Name(name)), second.find(Name(name))
            if mine is None or other is None:
                raise NotDirect
            keys.append((mine, other))
        found = equal_join(first, second, keys, keep_left=source.join == "left")
        kept = len(first.columns)
        rest = (one for one in found.columns[kept:] if one.name not in source.using)
        return Relation(found.length, (*found.columns[:kept], *rest))


_ALL = (Item(None),)
_NONE = np.zeros(0, np.bool_)
_ONE = Relation(1, ())
"""What a SELECT without FROM looks at."""


def _unnested(item: Item) -> tuple[Expression, ...] | None:
    call = item.expression
    if not isinstance(call, Call) or call.name != "unnest" or len(call.operands) != 1:
        return None
    (of,) = call.operands
    return of.operands if isinstance(of, Operation) and of.kind == "list" else None


def _alone(first: Relation, second: Relation) -> Relation:
    unknown = np.zeros(first.length, np.bool_)
    beside = (
        Lazy(one.name, one.table, partial(Column, "null", unknown, unknown))
        for one in second.columns
    )
    return Relation(first.length, (*first.columns, *beside))


def _conjuncts(on: Expression | None) -> list[Expression]:
    if isinstance(on, Operation) and on.kind == "and":
        return [found for part in on.operands for found in _conjuncts(part)]
    return [] if on is None else [on]


def _distinct(relation: Relation) -> Relation:
    if not relation.length:
        return relation
    keys = [one.column() for one in relation.columns]
    firsts = [rows[0] for rows in groups_by(keys, relation.length).rows]
    return relation.take(np.array(firsts, np.intp))


def keeps_order(query: Query) -> bool:
    """Tell whether the rows of a query come in the order of one table's."""
    (select, *others) = query.selects
    plain = not (query.named or others or select.grouped or select.distinct)
    single = len(select.sources) == 1 and isinstance(select.sources[0].origin, str)
    expressions = (item.expression for item in select.items if item.expression is not None)
    return plain and single and not any(map(windows, expressions))
