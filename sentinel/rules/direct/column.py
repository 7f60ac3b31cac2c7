"""A column of values, some of them unknown, and three-valued logic over columns.

Values compare as in DuckDB: NaN equals NaN and is above every other number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from sentinel.rules.direct.syntax import NotDirect

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["bool", "int", "float", "text", "list", "null"]
Values: TypeAlias = "NDArray[Any]"

_LARGEST = 2**53
"""Whole numbers up to this are exact in float64, in which sums and products are bounded."""

_DTYPES: Mapping[Kind, type] = MappingProxyType(
    {
        "bool": np.bool_,
        "int": np.int64,
        "float": np.float64,
        "text": object,
        "list": object,
        "null": np.bool_,
    }
)


_KIND_OF: Mapping[type, Kind] = MappingProxyType(
    {bool: "bool", int: "int", float: "float", str: "text", type(None): "null"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of one kind; where ``known`` is false the value is NULL and what is there is not said.

    ``exact_decimal`` marks what DuckDB holds as a decimal number, and not in binary.
    """

    kind: Kind
    values: Values
    known: NDArray[np.bool_]
    exact_decimal: bool = False

    def __len__(self) -> int:
        return len(self.known)

    def take(self, rows: Values) -> Column:
        """Return the values of some rows, by their index or by a mask."""
        return Column(self.kind, self.values[rows], self.known[rows], self.exact_decimal)

    def repeated(self, length: int) -> Column:
        """Return the first value as many times."""
        return self.take(np.zeros(length, np.intp))

    def where_unknown(self, unknown: NDArray[np.bool_]) -> Column:
        """Return the column with more rows unknown."""
        return Column(self.kind, self.values, self.known & ~unknown, self.exact_decimal)

    def to_plain(self) -> list[Any]:
        """Return the values as Python's, None where unknown."""
        pairs = zip(self.values.tolist(), self.known.tolist(), strict=True)
        return [value if is_known else None for value, is_known in pairs]

    def to_list(self) -> list[Any]:
        """Return the values as Python's, None where unknown; NaN as one object."""
        plain = self.values.tolist()
        if self.kind == "float":
            plain = ["nan" if value != value else value for value in plain]  # noqa: PLR0124
        if self.kind == "list":
            plain = [tuple(value) if value is not None else None for value in plain]
        known = self.known.tolist()
        return [value if is_known else None for value, is_known in zip(plain, known, strict=True)]


def column_of(values: Iterable[Any], kind: Kind) -> Column:
    """Return Python values, None where unknown, as a column."""
    given = list(values)
    known = np.array([value is not None for value in given], np.bool_)
    filler: Any = "" if kind == "text" else None if kind == "list" else 0
    plain = [filler if value is None else value for value in given]
    return Column(kind, np.fromiter(plain, _DTYPES[kind], len(plain)), known)


def constant(value: object, length: int, *, exact_decimal: bool = False) -> Column:
    """Return one value, a truth, a number, a text or None, as many times."""
    kind = _KIND_OF.get(type(value))
    if kind is None or (isinstance(value, int) and abs(value) > _LARGEST):
        raise NotDirect
    if length > _SHORT:
        return _repeated(kind, value, length, exact_decimal)
    return _short_constant(kind, value, length, exact_decimal)


_SHORT = 512
"""Columns up to this length are kept: at most 5 MB of them, and small checkpoints ask for the same
ones over and over."""


def _repeated(kind: Kind, value: Any, length: int, exact_decimal: bool) -> Column:  # noqa: FBT001
    values: Values = np.full(length, False if value is None else value, _DTYPES[kind])
    known = np.full(length, value is not None)
    values.flags.writeable = known.flags.writeable = False
    return Column(kind, values, known, exact_decimal)


_short_constant = lru_cache(maxsize=1024)(_repeated)


def truth(values: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> Column:
    """Return truth values, all known unless told otherwise."""
    return Column("bool", values, np.ones(len(values), np.bool_) if known is None else known)


def as_truth(column: Column) -> Column:
    """Return a column as truth values; raises NotDirect for another kind."""
    if column.kind not in {"bool", "null"}:
        raise NotDirect
    return column


def is_true(column: Column) -> NDArray[np.bool_]:
    """Tell for each row whether it is known to be true."""
    return as_truth(column).values & column.known


def is_false(column: Column) -> NDArray[np.bool_]:
    """Tell for each row whether it is known to be false."""
    return ~as_truth(column).values & column.known


def conjunction(first: Column, second: Column) -> Column:
    """Return AND: false wins over unknown."""
    no = is_false(first) | is_false(second)
    return truth(~no, no | (first.known & second.known))


def disjunction(first: Column, second: Column) -> Column:
    """Return OR: true wins over unknown."""
    yes = is_true(first) | is_true(second)
    return truth(yes, yes | (first.known & second.known))


def negation(column: Column) -> Column:
    """Return NOT."""
    return truth(~as_truth(column).values, column.known)


_COMPARING: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "=": operator.eq,
        "<>": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


def comparison(sign: str, first: Column, second: Column) -> Column:
    """Return what a comparison says; unknown where one of the two is."""
    first, second = alike(first, second)
    known = first.known & second.known
    if first.kind == "null":
        return truth(known.copy(), known)
    compare = _COMPARING[sign]
    if first.kind == "list":
        pairs = zip(first.to_list(), second.to_list(), strict=True)
        return truth(
            np.array([None not in pair and compare(*pair) for pair in pairs], np.bool_), known
        )
    found = np.asarray(compare(first.values, second.values), np.bool_)
    if first.kind == "float":
        mine, other = np.isnan(first.values), np.isnan(second.values)
        if (mine | other).any():
            # 1 stands above 0: NaN is the largest, and one is like another.
            found = np.where(mine | other, compare(mine.astype(int), other.astype(int)), found)
    return truth(found, known)


def alike(*columns: Column) -> list[Column]:
    """Return columns as of one kind; raises NotDirect where DuckDB has to cast."""
    kinds = {column.kind for column in columns} - {"null"}
    if kinds == {"int", "float"}:
        _refuse_inexact(columns)
        return [as_float(column) for column in columns]
    if len(kinds) > 1:
        raise NotDirect
    if not kinds:
        return list(columns)
    (kind,) = kinds
    return [
        column_of([None] * len(column), kind) if column.kind == "null" else column
        for column in columns
    ]


def as_float(column: Column) -> Column:
    """Return numbers in binary."""
    if column.kind == "float":
        return column
    if column.kind not in {"int", "bool", "null"}:
        raise NotDirect
    return Column("float", column.values.astype(np.float64), column.known)


def arithmetic(sign: str, first: Column, second: Column) -> Column:
    """Return a sum, difference, product or quotient; raises NotDirect near an overflow."""
    if "null" in {first.kind, second.kind}:
        return constant(None, len(first))
    if not {first.kind, second.kind} <= {"int", "float"}:
        raise NotDirect
    known = first.known & second.known
    _refuse_inexact((first, second))
    left = as_float(first).values
    right = as_float(second).values
    if sign == "/":
        if (known & (right == 0)).any():
            raise NotDirect
        right = np.where(known, right, 1.0)
    with np.errstate(all="ignore"):
        found = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[sign](left, right)
    if sign != "/" and first.kind == second.kind == "int":
        if (known & (np.abs(found) > _LARGEST)).any():
            raise NotDirect
        return Column("int", np.where(known, found, 0.0).astype(np.int64), known)
    grown = known & np.isfinite(left) & np.isfinite(right) & ~np.isfinite(found)
    if grown.any():
        raise NotDirect
    return Column("float", found, known)


def _refuse_inexact(columns: Iterable[Column]) -> None:
    """Raise NotDirect where DuckDB would reckon in decimal and binary could differ from it."""
    columns = tuple(columns)
    if not any(column.exact_decimal for column in columns):
        return
    if any(column.kind == "float" and not column.exact_decimal for column in columns):
        return  # with a binary number DuckDB reckons in binary too
    for column in columns:
        scaled = column.values.astype(np.float64) * 1024
        if (scaled != np.floor(scaled)).any():
            raise NotDirect
