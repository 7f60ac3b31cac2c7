"""Rows under column names, each column computed when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sentinel.rules.direct.column import Column, alike
from sentinel.rules.direct.syntax import Name, NotDirect

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_PAIRS = 1_000_000
"""Rows of a product of two relations; more are left to DuckDB, which counts its memory."""


@dataclass(slots=True, eq=False)
class Lazy:
    """A column under a name, of a table where it has one; computed once."""

    name: str | None
    table: str | None
    compute: Callable[[], Column]
    _found: Column | None = field(default=None)

    def column(self) -> Column:
        """Return the values; raises NotDirect where they are left to the database."""
        if self._found is None:
            self._found = self.compute()
        return self._found


class Relation:
    """Columns of one length; ``rows`` of what is ``given``, None for all of them.

    A filter keeps the columns it does not look at as they are, and takes its rows of them when
    somebody asks.
    """

    def __init__(
        self,
        length: int,
        given: Sequence[Lazy],
        rows: NDArray[np.intp] | None = None,
        places: dict[str | None, list[int]] | None = None,
    ) -> None:
        self.length = length
        self._given = tuple(given)
        self._rows = rows
        self._taken: dict[int, Lazy] = {}
        self._named: dict[str | None, Relation] = {}
        # Where each name stands in what is given; filled when a name is first sought.
        self._places = {} if places is None else places

    @property
    def columns(self) -> tuple[Lazy, ...]:
        """Return the columns in their order."""
        if self._rows is None:
            return self._given
        return tuple(self._at(place) for place in range(len(self._given)))

    def find(self, name: Name) -> Column | None:
        """Return the column of a name, None when there is none; raises NotDirect for several."""
        if not self._places:
            for place, one in enumerate(self._given):
                self._places.setdefault(one.name, []).append(place)
        places = self._places.get(name.name, [])
        found = [at for at in places if name.table in (None, self._given[at].table)]
        if len(found) > 1:
            raise NotDirect
        return self._at(found[0]).column() if found else None

    def named(self, table: str | None) -> Relation:
        """Return the relation as it is called behind FROM."""
        if table not in self._named:
            columns = self.columns
            if all(one.table == table for one in columns):
                return self
            renamed = tuple(Lazy(one.name, table, one.column) for one in columns)
            self._named[table] = Relation(self.length, renamed)
        return self._named[table]

    def take(self, rows: NDArray[np.intp]) -> Relation:
        """Return some of the rows, by their index."""
        chosen = rows if self._rows is None else self._rows[rows]
        return Relation(len(rows), self._given, chosen, self._places)

    def only(self, mask: NDArray[np.bool_]) -> Relation:
        """Return the rows of a mask."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def _at(self, place: int) -> Lazy:
        one = self._given[place]
        if self._rows is None:
            return one
        if place not in self._taken:
            self._taken[place] = _taken(one, self._rows)
        return self._taken[place]


def _taken(one: Lazy, rows: NDArray[np.intp]) -> Lazy:
    return Lazy(one.name, one.table, lambda: one.column().take(rows))


def product(first: Relation, second: Relation) -> Relation:
    """Return every row of one with every row of the other."""
    length = first.length * second.length
    if length > _MOST_PAIRS:
        raise NotDirect
    left = np.repeat(np.arange(first.length), second.length)
    right = np.tile(np.arange(second.length), first.length)
    return Relation(length, (*first.take(left).columns, *second.take(right).columns))


def equal_join(
    first: Relation,
    second: Relation,
    keys: Sequence[tuple[Column, Column]],
    *,
    keep_left: bool,
) -> Relation:
    """Return the pairs of rows that are equal in all keys; unknown values equal nothing.

    With ``keep_left`` a row of the first without a partner stays, with unknown values beside it.
    """
    for mine, other in keys:
        if mine.kind != other.kind and "null" not in {mine.kind, other.kind}:
            raise NotDirect
    places: dict[tuple[Any, ...], list[int]] = {}
    for place, key in enumerate(zip(*(other.to_list() for _, other in keys), strict=True)):
        if None not in key:
            places.setdefault(key, []).append(place)
    left: list[int] = []
    right: list[int] = []
    for place, key in enumerate(zip(*(mine.to_list() for mine, _ in keys), strict=True)):
        found = places.get(key, [-1] if keep_left else [])
        left += [place] * len(found)
        right += found
        if len(left) > _MOST_PAIRS:
            raise NotDirect
    partner = np.array(right, np.intp)
    columns = [_taken(one, np.array(left, np.intp)) for one in first.columns]
    columns += [_partnered(one, partner, second.length) for one in second.columns]
    return Relation(len(left), tuple(columns))


def _partnered(one: Lazy, partner: NDArray[np.intp], length: int) -> Lazy:
    def compute() -> Column:
        if not length:
            none = np.zeros(len(partner), np.bool_)
            return Column("null", none, none)
        return one.column().take(np.maximum(partner, 0)).where_unknown(partner < 0)

    return Lazy(one.name, one.table, compute)


def stacked(parts: Sequence[Relation]) -> Relation:
    """Return relations under one another, under the names of the first."""
    first, *others = parts
    if any(len(other.columns) != len(first.columns) for other in others):
        raise NotDirect
    filled = [part for part in parts if part.length]
    columns = (
        Lazy(one.name, None, partial(_piled, filled, at)) for at, one in enumerate(first.columns)
    )
    return Relation(sum(part.length for part in parts), tuple(columns))


def _piled(parts: Sequence[Relation], at: int) -> Column:
    found = alike(*(part.columns[at].column() for part in parts))
    return Column(
        found[0].kind,
        np.concatenate([one.values for one in found]),
        np.concatenate([one.known for one in found]),
        any(one.exact_decimal for one in found),
    )
