"""The scalar functions that are answered directly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from sentinel.rules.direct.column import (
    Column,
    alike,
    as_float,
    column_of,
    comparison,
    is_true,
    negation,
    truth,
)
from sentinel.rules.direct.syntax import NotDirect
from sentinel.rules.direct.texts import TEXTS


def coalesce(columns: Sequence[Column]) -> Column:
    """Return the first known value of each row."""
    columns = alike(*columns)
    found = columns[-1]
    for column in reversed(columns[:-1]):
        found = chosen(column.known, column, found)
    return found


def chosen(rows: Any, yes: Column, no: Column) -> Column:
    """Return one column's values in some rows and another's in the others."""
    yes, no = alike(yes, no)
    exact = yes.exact_decimal or no.exact_decimal
    return Column(
        yes.kind, np.where(rows, yes.values, no.values), np.where(rows, yes.known, no.known), exact
    )


def case(parts: Sequence[Column]) -> Column:
    """Return CASE: conditions and values in turn, and at last what holds else."""
    found = parts[-1]
    for at in range(len(parts) - 3, -1, -2):
        found = chosen(is_true(parts[at]), parts[at + 1], found)
    return found


def member(columns: Sequence[Column]) -> Column:
    """Return IN: unknown where nothing is equal and something is unknown."""
    operand, *choices = columns
    found = comparison("=", operand, choices[0])
    for choice in choices[1:]:
        other = comparison("=", operand, choice)
        yes = is_true(found) | is_true(other)
        found = truth(yes, yes | (found.known & other.known))
    return found


def among(column: Column, texts: frozenset[str]) -> Column:
    """Return IN for texts that are all known, as `member` does."""
    found = map(texts.__contains__, column.values.tolist())
    return truth(np.fromiter(found, np.bool_, len(column)), column.known)


def _length(columns: Sequence[Column]) -> Column:
    (column,) = columns
    if column.kind not in {"list", "null"}:
        raise NotDirect
    return column_of((None if one is None else len(one) for one in column.to_list()), "int")


def _nullif(columns: Sequence[Column]) -> Column:
    first, second = columns
    return first.where_unknown(is_true(comparison("=", first, second)))


def _extreme(sign: str) -> Callable[[Sequence[Column]], Column]:
    def extreme(columns: Sequence[Column]) -> Column:
        found, *others = alike(*columns)
        for other in others:
            better = is_true(comparison(sign, other, found)) | (other.known & ~found.known)
            found = chosen(better, other, found)
        return found

    return extreme


def _finite(columns: Sequence[Column]) -> Column:
    column = _number(columns[0])
    return truth(np.isfinite(column.values), column.known)


def _nan(columns: Sequence[Column]) -> Column:
    column = _number(columns[0])
    return truth(np.isnan(column.values), column.known)


def _magnitude(columns: Sequence[Column]) -> Column:
    (column,) = columns
    if column.kind not in {"int", "float"}:
        raise NotDirect
    return Column(column.kind, np.abs(column.values), column.known)


def _root(columns: Sequence[Column]) -> Column:
    column = _number(columns[0])
    if (column.known & ~(column.values >= 0)).any():
        raise NotDirect
    return Column("float", np.sqrt(np.where(column.known, column.values, 0.0)), column.known)


def _if(columns: Sequence[Column]) -> Column:
    condition, yes, no = columns
    return chosen(is_true(condition), yes, no)


SCALARS: Mapping[str, Callable[[Sequence[Column]], Column]] = MappingProxyType(
    {
        "abs": _magnitude,
        "coalesce": coalesce,
        "greatest": _extreme(">"),
        "if": _if,
        "isfinite": _finite,
        "isnan": _nan,
        "least": _extreme("<"),
        "len": _length,
        "nullif": _nullif,
        "sqrt": _root,
        **TEXTS,
    }
)
"""By name: a function of columns of one length, at least one row long."""


def cast(kind: str, column: Column) -> Column:
    """Return a column as of another type, where no value can be refused or rounded."""
    if kind in {"int", "integer", "bigint"} and column.kind in {"bool", "int"}:
        return Column("int", column.values.astype(np.int64), column.known)
    if kind == "double":
        return as_float(column)
    raise NotDirect


def try_cast(kind: str, column: Column) -> Column:
    """Return texts as whole numbers; raises NotDirect for a text that is none."""
    if kind == "bigint" and column.kind == "text":
        return column_of((None if one is None else _whole(one) for one in column.to_list()), "int")
    if kind == "integer[]" and column.kind == "list":
        rows = column.to_list()
        found = (None if one is None else tuple(map(_whole, one)) for one in rows)
        return column_of(found, "list")
    raise NotDirect


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise NotDirect
    return int(text)


CASTS: Mapping[str, Callable[[str, Column], Column]] = MappingProxyType(
    {"cast": cast, "try_cast": try_cast}
)


def listed(columns: Sequence[Column]) -> Column:
    """Return a list of whole numbers in each row."""
    if any(column.kind != "int" or not column.known.all() for column in columns):
        raise NotDirect
    return column_of(zip(*(column.values.tolist() for column in columns), strict=True), "list")


def unknown(column: Column) -> Column:
    """Return IS NULL."""
    return truth(~column.known)


def distinct(first: Column, second: Column) -> Column:
    """Return IS DISTINCT FROM: two unknown values are alike."""
    same = is_true(comparison("=", first, second)) | (~first.known & ~second.known)
    return negation(truth(same))


def _number(column: Column) -> Column:
    if column.kind not in {"int", "float", "null"}:
        raise NotDirect
    return as_float(column)
