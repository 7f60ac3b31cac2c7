"""Texts and numbers as the older pickle protocols spell them; no result holds a surrogate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel.formats.containers.pickle_source import PickleSource

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[\\'\"nrt])")
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "r": "\r", "t": "\t"}
_SHORTEST_QUOTED = 2


def utf8(raw: bytes) -> str:
    """Return text; bytes that are none are backslash-escaped, so that every encoder takes it."""
    return raw.decode("utf-8", "backslashreplace")


def quoted_line(source: PickleSource) -> str:
    """Read a line that holds a Python string literal, as protocol 0 writes Python 2's strings."""
    line = source.line().decode("latin-1")
    if len(line) < _SHORTEST_QUOTED or line[0] not in "'\"" or line[-1] != line[0]:
        source.refuse("has a string without its quotes")
    return _ESCAPE.sub(_unescape, line[1:-1])


def escaped_line(source: PickleSource) -> str:
    r"""Read a line of text in which other characters than Latin-1's are spelled ``\uXXXX``."""
    try:
        found = source.line().decode("raw-unicode-escape")
    except UnicodeDecodeError:
        source.refuse("has a text that cannot be decoded")
    return utf8(found.encode("utf-8", "surrogatepass"))


def integer_line(line: bytes) -> int | bool:
    """Return the number of an INT line; ``00`` and ``01`` are False and True."""
    if line in {b"00", b"01"}:
        return line == b"01"
    return int(line)


def long_line(line: bytes) -> int:
    """Return the number of a LONG line, which Python 2 ended with an L."""
    return int(line.removesuffix(b"L"))


def _unescape(match: re.Match[str]) -> str:
    found = match[1]
    return chr(int(found[1:], 16)) if found[0] == "x" else _ESCAPED[found]
