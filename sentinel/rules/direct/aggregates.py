"""One value of many rows: the aggregates that are answered directly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from sentinel.rules.direct.column import Column, column_of
from sentinel.rules.direct.syntax import NotDirect

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which group each row belongs to, and the rows of each group in their order."""

    of_row: NDArray[np.intp]
    rows: tuple[NDArray[np.intp], ...]


def one_group(length: int) -> Groups:
    """Return all rows as one group, also when there are none."""
    return Groups(np.zeros(length, np.intp), (np.arange(length, dtype=np.intp),))


def groups_by(keys: Sequence[Column], length: int) -> Groups:
    """Return the groups of rows that are alike in all keys, in the order they are met in."""
    if not keys:
        return one_group(length)
    known: dict[tuple[Any, ...], int] = {}
    of_row = [
        known.setdefault(key, len(known)) for key in zip(*(k.to_list() for k in keys), strict=True)
    ]
    array = np.array(of_row, np.intp)
    order = np.argsort(array, kind="stable")
    bounds = np.searchsorted(array[order], np.arange(1, len(known)))
    return Groups(array, tuple(np.split(order, bounds)) if known else ())


def count(column: Column | None, groups: Groups, *, distinct: bool) -> Column:
    """Return how many values are known, or how many rows there are where no column is given."""
    if column is None:
        return column_of((len(rows) for rows in groups.rows), "int")
    if distinct:
        values = column.to_list()
        found = (len({values[row] for row in rows} - {None}) for rows in groups.rows)
        return column_of(found, "int")
    counts = np.bincount(groups.of_row[column.known], minlength=len(groups.rows))
    return Column("int", counts.astype(np.int64), np.ones(len(counts), np.bool_))


def aggregate(name: str, column: Column, groups: Groups) -> Column:
    """Return an aggregate for each group; raises NotDirect for one that is not known here."""
    if name in {"first", "last"}:
        place = 0 if name == "first" else -1
        return _picked(column, [rows[place] if len(rows) else None for rows in groups.rows])
    if name not in _OVER_KNOWN and name not in _TRUTHS:
        raise NotDirect
    if column.kind == "null":
        return Column("null", *_nothing(len(groups.rows)))
    if name in _TRUTHS:
        return _truth(name, column, groups)
    return _OVER_KNOWN[name](column, [rows[column.known[rows]] for rows in groups.rows])


def _nothing(length: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.zeros(length, np.bool_), np.zeros(length, np.bool_)


def _picked(column: Column, rows: Sequence[Any]) -> Column:
    """Return the values of some rows, unknown where no row is given."""
    given = np.array([row is not None for row in rows], np.bool_)
    if not given.any():
        return Column("null", *_nothing(len(rows)))
    found = column.take(np.array([row or 0 for row in rows], np.intp))
    return found.where_unknown(~given)


Rows = Sequence["NDArray[np.intp]"]


def _any_value(column: Column, groups: Rows) -> Column:
    return _picked(column, [rows[0] if len(rows) else None for rows in groups])


def _sum(column: Column, groups: Rows) -> Column:
    if column.kind not in {"int", "float"} or column.exact_decimal:
        raise NotDirect
    if column.kind == "int" and np.abs(column.values.astype(np.float64)).sum() > _LARGEST:
        raise NotDirect
    values = column.values
    found = [values[rows].sum().item() if len(rows) else None for rows in groups]
    if column.kind == "float" and not np.isfinite(values[column.known]).all():
        raise NotDirect
    return column_of(found, column.kind)


def _average(column: Column, groups: Rows) -> Column:
    total = _sum(column, groups)
    counts = np.array([max(1, len(rows)) for rows in groups], np.float64)
    return Column("float", total.values.astype(np.float64) / counts, total.known)


def _truth(name: str, column: Column, groups: Groups) -> Column:
    """Return whether all, or some, of the known truths of each group hold."""
    _want(column, "bool")
    length = len(groups.rows)
    known = np.bincount(groups.of_row[column.known], minlength=length)
    true = np.bincount(groups.of_row[column.known & (column.values != 0)], minlength=length)
    return Column("bool", true == known if name == "bool_and" else true > 0, known > 0)


def _extreme(choose: Callable[..., Any]) -> Callable[[Column, Rows], Column]:
    def extreme(column: Column, groups: Rows) -> Column:
        if column.kind not in {"int", "float", "text"}:
            raise NotDirect
        if column.kind == "float" and np.isnan(column.values[column.known]).any():
            raise NotDirect
        found = (choose(column.values[r].tolist()) if len(r) else None for r in groups)
        return column_of(found, column.kind)

    return extreme


def _median(column: Column, groups: Rows) -> Column:
    _want(column, "float")
    if not np.isfinite(column.values[column.known]).all():
        raise NotDirect
    found = (float(np.median(column.values[r])) if len(r) else None for r in groups)
    return column_of(found, "float")


def _mode(column: Column, groups: Rows) -> Column:
    values = column.to_list()
    found = []
    for rows in groups:
        common = Counter(values[row] for row in rows).most_common(2)
        if len(common) > 1 and common[0][1] == common[1][1]:
            raise NotDirect  # which of the two is DuckDB's to say
        found.append(next(r for r in rows if values[r] == common[0][0]) if common else None)
    return _picked(column, found)


def _only_text(column: Column, groups: Rows) -> Column:
    """Return the one text that there is; in which order several come is DuckDB's to say."""
    _want(column, "text")
    if any(len(set(column.values[rows].tolist())) > 1 for rows in groups):
        raise NotDirect
    return _any_value(column, groups)


def _want(column: Column, kind: str) -> None:
    if column.kind != kind:
        raise NotDirect


_TRUTHS = frozenset({"bool_and", "bool_or"})
_OVER_KNOWN: Mapping[str, Callable[[Column, Rows], Column]] = MappingProxyType(
    {
        "any_value": _any_value,
        "avg": _average,
        "max": _extreme(max),
        "median": _median,
        "min": _extreme(min),
        "mode": _mode,
        "only_text": _only_text,
        "sum": _sum,
    }
)
"""By name, aggregates over the values that are known."""
