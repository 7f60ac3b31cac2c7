"""The tables of a checkpoint as relations, with the columns of the one before it.

They have the columns and types that the database would be filled with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sentinel.rules.direct.column import DTYPE_OF, Column, Kind, column_of
from sentinel.rules.direct.computing import compute
from sentinel.rules.direct.queries import expression_of
from sentinel.rules.direct.relation import Lazy, Relation
from sentinel.rules.direct.selecting import Runner
from sentinel.rules.direct.syntax import NotDirect
from sentinel.rules.tables import GIVEN, HISTORY, HISTORY_KEYS, PAST_TABLES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "VARCHAR": "text",
        "BIGINT": "int",
        "DOUBLE": "float",
        "BOOLEAN": "bool",
        "BIGINT[]": "list",
    }
)


class Given:
    """The tables of one checkpoint and those of the one before, each read when it is named."""

    def __init__(self, tables: Mapping[str, pa.Table]) -> None:
        self._tables = tables
        self._found: dict[str, Relation] = {}

    def table(self, name: str) -> Relation:
        """Return a declared table; raises NotDirect for any other."""
        if name not in self._found:
            if name not in GIVEN and name not in PAST_TABLES:
                raise NotDirect
            self._found[name] = self._read(name)
        return self._found[name]

    def add(self, name: str, table: pa.Table) -> None:
        """Put rows into a table that was not known before."""
        self._tables = {**self._tables, name: table}
        self._found.pop(name, None)

    def _read(self, name: str) -> Relation:
        declared = GIVEN.get(name) or PAST_TABLES[name]
        now = _relation(declared, self._tables.get(name), "now")
        history = HISTORY.get(name, {})
        was = self._tables.get(f"prev_{name}") if history else None
        if was is None:
            unknown = np.zeros(now.length, np.bool_)
            columns = [
                Lazy(column, name, partial(Column, "null", unknown, unknown)) for column in history
            ]
            return Relation(now.length, (*now.named(name).columns, *columns))
        before = _before(now, _relation(declared, was, "was"), HISTORY_KEYS[name])
        both = Relation(now.length, (*now.columns, *before.columns))
        columns = [
            Lazy(column, name, partial(_of_both, sql, both)) for column, (sql, _) in history.items()
        ]
        return Relation(now.length, (*now.named(name).columns, *columns))


def _of_both(sql: str, both: Relation) -> Column:
    expression = expression_of(sql)
    if expression is None:
        raise NotDirect
    return compute(expression, Runner(_no_table, {}).scope(both))


def _no_table(_name: str) -> Relation:
    raise NotDirect


def _before(now: Relation, was: Relation, keys: tuple[str, ...]) -> Relation:
    """Return for each row now its row before, unknown where there is none or more than one.

    Keys match as in IS NOT DISTINCT FROM: unknown is like unknown.
    """
    if not keys:
        if was.length > 1:
            raise NotDirect
        place = np.full(now.length, 0 if was.length else -1, np.intp)
        return _placed(was, place)
    mine, earlier = (_keys(side, keys) for side in (now, was))
    counts = Counter(earlier)
    places = {key: at for at, key in enumerate(earlier) if counts[key] == 1}
    return _placed(was, np.array([places.get(key, -1) for key in mine], np.intp))


def _keys(side: Relation, keys: tuple[str, ...]) -> list[tuple[Any, ...]]:
    columns = [one for key in keys for one in side.columns if one.name == key]
    return list(zip(*(one.column().to_list() for one in columns), strict=True))


def _placed(was: Relation, place: NDArray[np.intp]) -> Relation:
    def at(one: Lazy) -> Callable[[], Column]:
        def compute_() -> Column:
            if not was.length:
                unknown = np.zeros(len(place), np.bool_)
                return Column("null", unknown, unknown)
            return one.column().take(np.maximum(place, 0)).where_unknown(place < 0)

        return compute_

    return Relation(len(place), tuple(Lazy(one.name, "was", at(one)) for one in was.columns))


def _relation(declared: Mapping[str, str], table: pa.Table | None, name: str) -> Relation:
    length = 0 if table is None else table.num_rows
    columns = (
        Lazy(column, name, partial(_column, table, column, _KINDS[kind]))
        for column, kind in declared.items()
    )
    return Relation(length, tuple(columns))


def _column(table: pa.Table | None, name: str, kind: Kind) -> Column:
    """Return one column in its declared type; raises NotDirect where it would have to be cast."""
    length = 0 if table is None else table.num_rows
    if table is None or name not in table.column_names:
        unknown = np.zeros(length, np.bool_)
        return Column("null", unknown, unknown)
    values = table[name]
    if pa.types.is_null(values.type):
        unknown = np.zeros(length, np.bool_)
        return Column("null", unknown, unknown)
    if values.type in _LIKE[kind] and kind != "list" and not values.null_count:
        # Arrow's own way of telling NULL from the rest is a library that takes 20 ms to import.
        plain = values.to_numpy().astype(DTYPE_OF[kind], copy=False)
        return Column(kind, plain, np.ones(length, np.bool_))
    if values.type in _LIKE[kind]:
        return column_of(values.to_pylist(), kind)
    plain = values.to_pylist()
    if kind == "float" and pa.types.is_integer(values.type):
        return column_of((None if one is None else float(one) for one in plain), kind)
    if kind == "text" and (pa.types.is_boolean(values.type) or pa.types.is_integer(values.type)):
        return column_of((None if one is None else str(one).lower() for one in plain), kind)
    raise NotDirect


_LIKE: Mapping[Kind, tuple[pa.DataType, ...]] = MappingProxyType(
    {
        "text": (pa.string(), pa.large_string()),
        "int": (pa.int64(), pa.int32()),
        "float": (pa.float64(),),
        "bool": (pa.bool_(),),
        "list": (pa.list_(pa.int64()),),
    }
)
