"""Computing expressions over the rows of a relation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sentinel.rules.direct import column as col
from sentinel.rules.direct import functions, texts
from sentinel.rules.direct.aggregates import Groups, aggregate, count, groups_by
from sentinel.rules.direct.column import Column, constant
from sentinel.rules.direct.relation import Relation
from sentinel.rules.direct.syntax import (
    AGGREGATES,
    Call,
    Expression,
    Inner,
    Literal,
    Name,
    NotDirect,
    Operation,
    Order,
    Parameter,
    Query,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What an expression can name: the rows, the SELECT's own columns, parameters, queries.

    With ``groups`` aggregates are computed for each of them, and the rows of the outcome are the
    groups; ``keys`` are the expressions that are one value in each.
    """

    relation: Relation
    parameters: Mapping[str, bool | int | float | str]
    run: Callable[[Query], Relation]
    aliases: Mapping[str, Expression] = field(default_factory=dict)
    groups: Groups | None = None
    keys: tuple[Expression, ...] = ()

    @property
    def length(self) -> int:
        """Return how many rows the outcome has."""
        return self.relation.length if self.groups is None else len(self.groups.rows)

    def ungrouped(self) -> Scope:
        """Return the scope of what stands inside an aggregate."""
        return Scope(self.relation, self.parameters, self.run)


def compute(expression: Expression, scope: Scope) -> Column:
    """Return the value of an expression for each row; raises NotDirect."""
    if not scope.length:
        return constant(None, 0)
    if scope.groups is not None and expression in scope.keys:
        firsts = np.array([rows[0] for rows in scope.groups.rows], np.intp)
        return compute(expression, scope.ungrouped()).take(firsts)
    if type(expression) not in _WAYS:
        raise NotDirect
    return _WAYS[type(expression)](expression, scope)


def _literal(literal: Literal, scope: Scope) -> Column:
    return constant(literal.value, scope.length, exact_decimal=literal.exact_decimal)


def _parameter(parameter: Parameter, scope: Scope) -> Column:
    return constant(scope.parameters[parameter.name], scope.length)


def _named(name: Name, scope: Scope) -> Column:
    found = None if scope.groups is not None else scope.relation.find(name)
    if found is not None:
        return found
    if name.table is None and name.name in scope.aliases:
        # Without itself: a column may have the name of what it is made of.
        others = {alias: one for alias, one in scope.aliases.items() if alias != name.name}
        return compute(scope.aliases[name.name], replace(scope, aliases=others))
    raise NotDirect


def _operation(operation: Operation, scope: Scope) -> Column:
    kind, operands = operation.kind, operation.operands
    if kind in {"and", "or"}:
        return _junction(kind, operands, scope)
    if kind == "in":
        return _in(operands, scope)
    columns = [compute(operand, scope) for operand in operands]
    if kind in _SIGNS:
        return _SIGNS[kind](kind, *columns)
    if kind in _MANY:
        return _MANY[kind](columns)
    if kind == "negative":
        return col.arithmetic("-", constant(0, scope.length), *columns)
    way, _, wanted = kind.partition(" ")
    return (
        functions.CASTS[way](wanted, *columns) if way in functions.CASTS else _FEW[kind](*columns)
    )


_SIGNS: Mapping[str, Callable[..., Column]] = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">="), col.comparison),
    **dict.fromkeys(("+", "-", "*", "/"), col.arithmetic),
}
_FEW: Mapping[str, Callable[..., Column]] = {
    "not": col.negation,
    "is null": functions.unknown,
    "is distinct": functions.distinct,
}
_MANY: Mapping[str, Callable[[Sequence[Column]], Column]] = {
    "case": functions.case,
    "list": functions.listed,
    "like": texts.like,
    "||": texts.joined,
}


def _in(operands: tuple[Expression, ...], scope: Scope) -> Column:
    """Return IN; among texts that the rule names no column is made of each."""
    first, *choices = operands
    texts = [one.value for one in choices if isinstance(one, Literal)]
    column = compute(first, scope)
    if column.kind == "text" and len(texts) == len(choices):
        named = frozenset(text for text in texts if isinstance(text, str))
        if len(named) == len(set(texts)):
            return functions.among(column, named)
    return functions.member([column, *(compute(one, scope) for one in choices)])


def _junction(kind: str, operands: tuple[Expression, ...], scope: Scope) -> Column:
    """Return AND or OR; the second is not asked where the first decides every row."""
    first = compute(operands[0], scope)
    decided = col.is_false(first) if kind == "and" else col.is_true(first)
    if decided.all():
        return first
    second = compute(operands[1], scope)
    return (col.conjunction if kind == "and" else col.disjunction)(first, second)


def _call(call: Call, scope: Scope) -> Column:
    if call.over is not None:
        return _window(call, scope)
    if call.name in AGGREGATES:
        if scope.groups is None:
            raise NotDirect
        return _aggregated(call, scope.ungrouped(), scope.groups)
    if call.name not in functions.SCALARS or call.only is not None or call.distinct:
        raise NotDirect
    columns = [compute(operand, scope) for operand in call.operands]
    return functions.SCALARS[call.name](columns)


def _aggregated(call: Call, scope: Scope, groups: Groups) -> Column:
    """Return an aggregate of the rows of a scope for each group."""
    if not scope.length and call.name != "count":
        return constant(None, len(groups.rows))
    if call.name == "string_agg" and call.distinct and not call.order:
        call = replace(call, name="only_text", distinct=False, operands=call.operands[:1])
    if call.distinct and call.name != "count":
        raise NotDirect
    groups = groups if call.only is None else _where(groups, call.only, scope)
    if call.order:
        groups = Groups(
            groups.of_row, tuple(ordered(rows, call.order, scope) for rows in groups.rows)
        )
    if call.name == "count":
        column = compute(call.operands[0], scope) if call.operands and scope.length else None
        return count(column, groups, distinct=call.distinct)
    (operand,) = call.operands
    return aggregate(call.name, compute(operand, scope), groups)


def _where(groups: Groups, only: Expression, scope: Scope) -> Groups:
    mask = col.is_true(compute(only, scope))
    return Groups(groups.of_row, tuple(rows[mask[rows]] for rows in groups.rows))


def _window(call: Call, scope: Scope) -> Column:
    if scope.groups is not None or call.over is None:
        raise NotDirect
    groups = groups_by([compute(key, scope) for key in call.over.partition], scope.length)
    if call.name == "row_number":
        place = np.empty(scope.length, np.int64)
        for rows in groups.rows:
            place[ordered(rows, call.over.order, scope)] = np.arange(1, len(rows) + 1)
        return Column("int", place, np.ones(scope.length, np.bool_))
    if call.over.order or call.name not in AGGREGATES:
        raise NotDirect
    return _aggregated(call, scope, groups).take(groups.of_row)


def ordered(rows: NDArray[np.intp], order: Sequence[Order], scope: Scope) -> NDArray[np.intp]:
    """Return rows in an order by one number that differs in all; raises NotDirect otherwise."""
    if len(rows) < 2:  # noqa: PLR2004 - one row is in order
        return rows
    (key,) = order if len(order) == 1 else (None,)
    if key is None:
        raise NotDirect
    column = compute(key.key, scope).take(rows)
    if column.kind not in {"int", "float"} or not column.known.all():
        raise NotDirect
    if len(np.unique(column.values)) < len(rows) or not np.isfinite(column.values).all():
        raise NotDirect
    places = np.argsort(column.values, kind="stable")
    return rows[places[::-1] if key.descending else places]


def _inner(inner: Inner, scope: Scope) -> Column:
    """Return what a query that names nothing outside itself gives, the same in every row."""
    found = scope.run(inner.query)
    if inner.kind == "exists":
        return constant(found.length > 0, scope.length)
    (only, *more) = found.columns
    if more:
        raise NotDirect
    if inner.kind == "scalar":
        if found.length > 1:
            raise NotDirect
        if not found.length:
            return constant(None, scope.length)
        return only.column().repeated(scope.length)
    operand = compute(inner.operand or Literal(None), scope)
    if not found.length:
        return constant(value=False, length=scope.length)
    choices = [only.column().take(np.array([row])) for row in range(found.length)]
    return functions.member([operand, *(one.repeated(scope.length) for one in choices)])


_WAYS: Mapping[type, Callable[..., Column]] = {
    Call: _call,
    Inner: _inner,
    Literal: _literal,
    Name: _named,
    Operation: _operation,
    Parameter: _parameter,
}
