"""The tree of the SQL that is answered directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


class NotDirect(Exception):  # noqa: N818 - no error: the database answers instead
    """This SQL, or these values, are left to the database."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; ``exact_decimal`` is a number with a point, which DuckDB keeps in decimal."""

    value: bool | int | float | str | None
    exact_decimal: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """``$name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Name:
    """A column, with its table's name where that is written."""

    name: str
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or a construct of its own: ``and``, ``=``, ``is null``, ``cast BIGINT``, ..."""

    kind: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function: scalar, or an aggregate with what belongs to it."""

    name: str
    operands: tuple[Expression, ...]
    distinct: bool = False
    order: tuple[Order, ...] = ()
    only: Expression | None = None
    over: Window | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """``OVER (PARTITION BY ... ORDER BY ...)``."""

    partition: tuple[Expression, ...]
    order: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """One key of an order."""

    key: Expression
    descending: bool


@dataclass(frozen=True, slots=True)
class Inner:
    """A query inside an expression; ``kind`` is ``scalar``, ``exists`` or ``in``."""

    kind: str
    query: Query
    operand: Expression | None = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something that is read but not computed."""


Expression: TypeAlias = Literal | Parameter | Name | Operation | Call | Inner | Opaque


@dataclass(frozen=True, slots=True)
class Item:
    """A column of a SELECT; no expression stands for ``*``, of ``table`` alone where given."""

    expression: Expression | None
    alias: str | None = None
    table: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What stands behind FROM or JOIN, and how it is joined to what stands before it."""

    origin: str | Query
    alias: str | None
    join: str = "cross"
    on: Expression | None = None
    using: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT; ``groups`` None is no GROUP BY, ``grouped`` that aggregates make its rows."""

    items: tuple[Item, ...]
    sources: tuple[Source, ...]
    where: Expression | None = None
    groups: tuple[Expression, ...] | None = None
    having: Expression | None = None
    distinct: bool = False
    grouped: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """SELECTs under one another, with the queries named before them."""

    named: tuple[tuple[str, Query], ...]
    selects: tuple[Select, ...]
    order: tuple[Order, ...] = ()
    limit: Expression | None = None


AGGREGATES = frozenset(
    {
        "any_value", "avg", "bool_and", "bool_or", "count", "first", "last", "max", "median",
        "min", "mode", "row_number", "string_agg", "sum",
    }
)  # fmt: skip


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """Return the expressions an expression is made of, those of inner queries left out."""
    if isinstance(expression, Operation):
        return expression.operands
    if isinstance(expression, Call):
        order = tuple(one.key for one in expression.order)
        return (*expression.operands, *order, *((expression.only,) if expression.only else ()))
    if isinstance(expression, Inner) and expression.operand is not None:
        return (expression.operand,)
    return ()


def aggregates(expression: Expression) -> bool:
    """Tell whether an expression makes one value of many rows, windows left out."""
    if isinstance(expression, Call) and expression.name in AGGREGATES and expression.over is None:
        return True
    return any(aggregates(part) for part in parts_of(expression))


def windows(expression: Expression) -> bool:
    """Tell whether an expression looks at other rows beside its own."""
    if isinstance(expression, Call) and expression.over is not None:
        return True
    return any(windows(part) for part in parts_of(expression))
