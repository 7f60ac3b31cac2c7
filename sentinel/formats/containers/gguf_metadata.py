"""The metadata of a GGUF file: keys with typed values, arrays among them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.formats.containers.gguf_cursor import LENGTH_BYTES

if TYPE_CHECKING:
    from sentinel.formats.containers.gguf_cursor import GgufCursor

KEY_LIMIT = 65_536
DEPTH_LIMIT = 4
ITEM_LIMIT = 2**32
WALKED_LIMIT = 4_000_000
"""Texts in arrays, all together: the largest tokenizers have one million, with their merges."""

KEPT_ITEMS = 16
"""Items of an array that are kept: vocabularies are nobody's business here."""

KEPT_BYTES = 65_536
_KEPT_IN_ARRAY_BYTES = 1024
_TOTAL_KEPT_BYTES = 64 * 1024**2

_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        0: ("uint8", "B"),
        1: ("int8", "b"),
        2: ("uint16", "H"),
        3: ("int16", "h"),
        4: ("uint32", "I"),
        5: ("int32", "i"),
        6: ("float32", "f"),
        10: ("uint64", "Q"),
        11: ("int64", "q"),
        12: ("float64", "d"),
    }
)
"""Number of the value type → its name and its code in `struct`."""


@dataclass(frozen=True, slots=True)
class GgufArray:
    """An array: the type and number of its items, and the first of them.

    Of arrays in arrays the items are arrays themselves.
    """

    kind: str
    count: int
    first: tuple[GgufValue, ...]


GgufValue = str | int | float | bool | GgufArray


def read_metadata(cursor: GgufCursor, count: int) -> Mapping[str, GgufValue]:
    """Return the metadata at a cursor; raises InputError for a key that occurs twice."""
    return MappingProxyType(_Metadata(cursor).read(count))


class _Metadata:
    """One reading, with what it has kept and walked past so far."""

    def __init__(self, cursor: GgufCursor) -> None:
        self._cursor = cursor
        self._kept_bytes = 0
        self._walked = 0

    def read(self, count: int) -> dict[str, GgufValue]:
        found: dict[str, GgufValue] = {}
        for number in range(count):
            key = self._cursor.name(f"metadata key {number}")
            if key in found:
                raise self._cursor.refused(f"its metadata has the key '{key:.200}' twice")
            what = f"the metadata value '{key:.200}'"
            kind = int(self._cursor.number("I", what))
            found[key] = self._value(kind, what, depth=0, kept_bytes=KEPT_BYTES)
        return found

    def _value(self, kind: int, what: str, *, depth: int, kept_bytes: int) -> GgufValue:
        if kind in _NUMBERS:
            return self._cursor.number(_NUMBERS[kind][1], what)
        if kind == _BOOL:
            return self._flag(what)
        if kind == _STRING:
            return self._text(what, kept_bytes)
        if kind == _ARRAY:
            return self._array(what, depth)
        raise self._cursor.refused(f"{what} is of the unknown type {kind}")

    def _flag(self, what: str) -> bool:
        found = self._cursor.take(1, what)[0]
        if found > 1:
            raise self._cursor.refused(f"{what} is a truth value of {found}")
        return found == 1

    def _text(self, what: str, kept_bytes: int) -> str:
        text = self._cursor.text(what, kept_bytes=kept_bytes)
        self._kept_bytes += len(text)
        if self._kept_bytes > _TOTAL_KEPT_BYTES:
            raise self._cursor.refused(
                f"its metadata up to {what} is over {_TOTAL_KEPT_BYTES} bytes"
            )
        return text

    def _array(self, what: str, depth: int) -> GgufArray:
        if depth == DEPTH_LIMIT:
            raise self._cursor.refused(
                f"{what} holds arrays in arrays, more than {DEPTH_LIMIT} deep"
            )
        kind = int(self._cursor.number("I", what))
        count = self._cursor.count("Q", f"the number of items of {what}", limit=ITEM_LIMIT)
        smallest = _smallest_bytes(kind)
        if smallest is None:
            raise self._cursor.refused(f"{what} is an array of the unknown type {kind}")
        self._cursor.need(count * smallest, what)
        kept = min(count, KEPT_ITEMS)
        first = tuple(
            self._value(kind, what, depth=depth + 1, kept_bytes=_KEPT_IN_ARRAY_BYTES)
            for _ in range(kept)
        )
        self._skip(kind, count - kept, what, depth)
        return GgufArray(_kind_name(kind), count, first)

    def _skip(self, kind: int, count: int, what: str, depth: int) -> None:
        """Go past the items of an array that are not kept."""
        if kind in {_STRING, _ARRAY}:
            self._walked += count
            if self._walked > WALKED_LIMIT:
                raise self._cursor.refused(
                    f"its metadata up to {what} has over {WALKED_LIMIT} items"
                )
        if kind == _STRING:
            self._cursor.skip_texts(count, what)
        elif kind == _ARRAY:
            for _ in range(count):
                self._array(what, depth + 1)
        else:
            self._cursor.skip(count * (_smallest_bytes(kind) or 0), what)


def _smallest_bytes(kind: int) -> int | None:
    """Return the bytes that an item takes at least, None for an unknown type."""
    if kind in _NUMBERS:
        return struct.calcsize(f"<{_NUMBERS[kind][1]}")
    return {_BOOL: 1, _STRING: LENGTH_BYTES, _ARRAY: 4 + LENGTH_BYTES}.get(kind)


def _kind_name(kind: int) -> str:
    return {_BOOL: "bool", _STRING: "string", _ARRAY: "array"}.get(kind) or _NUMBERS[kind][0]


def value_text(value: GgufValue) -> str:
    """Return a value as one line: an array by its number of items and the first of them."""
    if not isinstance(value, GgufArray):
        return str(value)
    words = ", ".join(map(value_text, value.first))
    rest = ", ..." if value.count > len(value.first) else ""
    return f"{value.count} x {value.kind}" + (f": {words}{rest}" if words else "")
