"""Functions of texts, and the patterns that mean the same in Python as in DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from sentinel.rules.direct.column import DTYPE_OF, Column, Kind, column_of
from sentinel.rules.direct.syntax import NotDirect

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LONGEST = 256
"""Texts longer than this are left to DuckDB, whose patterns cannot run away."""

_RISKY = re.compile(r"[)][*+{]|\(\?(?!:)|[*+?}]\+|\[\[|[^\x20-\x7e]")
"""What in a pattern can take long, or means another thing in Python than in RE2."""

_ESCAPES = re.compile(r"(?:[^\\]|\\[.dDwWsS\\])*")
"""Patterns whose escapes mean the same in both."""

_VERSION_TAIL = r"(\.[0-9]+)*"
"""A repeated group that cannot run away: what follows it never looks like its beginning."""

_MANY = 3
"""Repetitions without a bound: a text of `_LONGEST` is read its length to the power of them."""


def like(columns: Sequence[Column]) -> Column:
    """Return LIKE for a pattern that is the same in all rows."""
    text, pattern, escape = columns
    sign = _only(escape)
    parts = []
    letters = iter(_only(pattern))
    for letter in letters:
        if sign and letter == sign:
            parts.append(re.escape(next(letters, "")))
        else:
            parts.append({"%": ".*", "_": "."}.get(letter, re.escape(letter)))
    if "".join(parts).count(".*") > _MANY:
        raise NotDirect
    matcher = re.compile("".join(parts), re.DOTALL)
    return _of_texts(text, lambda one: matcher.fullmatch(one) is not None, "bool")


def _lower(columns: Sequence[Column]) -> Column:
    return _of_texts(_ascii(columns[0]), str.lower, "text")


def _upper(columns: Sequence[Column]) -> Column:
    return _of_texts(_ascii(columns[0]), str.upper, "text")


def _contains(columns: Sequence[Column]) -> Column:
    text, part = columns[0], _only(columns[1])
    return _of_texts(text, lambda one: part in one, "bool")


def _substr(columns: Sequence[Column]) -> Column:
    text, start = columns[0], columns[1]
    if len(columns) != 2 or start.kind != "int" or start.values[0] < 1:  # noqa: PLR2004
        raise NotDirect
    if (start.values != start.values[0]).any():
        raise NotDirect
    return _of_texts(_ascii(text), lambda one: one[int(start.values[0]) - 1 :], "text")


def _starts_with(columns: Sequence[Column]) -> Column:
    text, part = columns[0], _only(columns[1])
    return _of_texts(text, lambda one: one.startswith(part), "bool")


def _replace(columns: Sequence[Column]) -> Column:
    old, new = _only(columns[1]), _only(columns[2])
    return _of_texts(columns[0], lambda one: one.replace(old, new) if old else one, "text")


def _regexp_matches(columns: Sequence[Column]) -> Column:
    if len(columns) != 2:  # noqa: PLR2004 - a text and a pattern
        raise NotDirect
    pattern = _pattern(_only(columns[1]))
    return _of_texts(_short(columns[0]), lambda one: pattern.search(one) is not None, "bool")


def _regexp_extract(columns: Sequence[Column]) -> Column:
    pattern = _pattern(_only(columns[1]))
    group = int(columns[2].values[0]) if len(columns) > 2 else 0  # noqa: PLR2004
    if group > pattern.groups:
        raise NotDirect

    def extract(one: str) -> str:
        match = pattern.search(one)
        return (match[group] or "") if match else ""

    return _of_texts(_short(columns[0]), extract, "text")


def _regexp_replace(columns: Sequence[Column]) -> Column:
    text, pattern, new = columns[0], _pattern(_only(columns[1])), _only(columns[2])
    if len(columns) != 4 or _only(columns[3]) != "g" or "\\" in new:  # noqa: PLR2004
        raise NotDirect
    if pattern.match(""):
        raise NotDirect  # what matches nothing at all is counted otherwise
    return _of_texts(_short(text), lambda one: pattern.sub(new, one), "text")


def _string_split(columns: Sequence[Column]) -> Column:
    between = _only(columns[1])
    if not between:
        raise NotDirect
    return _of_texts(columns[0], lambda one: tuple(one.split(between)), "list")


def _concat_ws(columns: Sequence[Column]) -> Column:
    between = _only(columns[0])
    rows = zip(*(_text(column).to_list() for column in columns[1:]), strict=True)
    return column_of((between.join(p for p in row if p is not None) for row in rows), "text")


def joined(columns: Sequence[Column]) -> Column:
    """Return texts one behind the other, unknown where one is."""
    first, second = (_text(column) for column in columns)
    return Column("text", first.values + second.values, first.known & second.known)


def _text(column: Column) -> Column:
    if column.kind == "null":
        return column_of([None] * len(column), "text")
    if column.kind != "text":
        raise NotDirect
    return column


def _ascii(column: Column) -> Column:
    if not "".join(_text(column).values.tolist()).isascii():
        raise NotDirect
    return column


def _short(column: Column) -> Column:
    values = _text(column).values.tolist()
    together = "".join(values)
    is_plain = together.isascii() and "\n" not in together
    if not is_plain or max(map(len, values), default=0) > _LONGEST:
        raise NotDirect
    return column


def _only(column: Column) -> str:
    """Return the text that is the same in all rows."""
    text = _text(column)
    if not text.known.all() or len(set(text.values.tolist())) > 1:
        raise NotDirect
    return str(text.values[0])


@lru_cache(256)
def _pattern(text: str) -> re.Pattern[str]:
    bare = text.replace(_VERSION_TAIL, "")
    if _RISKY.search(bare) or not _ESCAPES.fullmatch(text):
        raise NotDirect
    if len(re.findall(r"(?<!\\)[*+]|,\}", text)) > _MANY:
        raise NotDirect
    try:
        return re.compile(text, re.ASCII)
    except re.error:
        raise NotDirect from None


def _of_texts(column: Column, fn: Callable[[str], Any], kind: Kind) -> Column:
    """Apply a function to each text that differs."""
    text = _text(column)
    values = text.values.tolist()
    known = {one: fn(one) for one in set(values)}
    found: NDArray[Any] = np.fromiter(map(known.__getitem__, values), DTYPE_OF[kind], len(values))
    return Column(kind, found, text.known)


TEXTS: Mapping[str, Callable[[Sequence[Column]], Column]] = MappingProxyType(
    {
        "concat_ws": _concat_ws,
        "contains": _contains,
        "lower": _lower,
        "regexp_extract": _regexp_extract,
        "regexp_matches": _regexp_matches,
        "regexp_replace": _regexp_replace,
        "replace": _replace,
        "starts_with": _starts_with,
        "string_split": _string_split,
        "substr": _substr,
        "upper": _upper,
    }
)
"""By name: a function of columns of one length, at least one row long."""
