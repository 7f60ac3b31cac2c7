"""SQL text as tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from sentinel.rules.direct.syntax import NotDirect

_TOKEN = re.compile(
    r"""\s+|--[^\n]*|/\*.*?\*/
    |(?P<number>(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)
    |'(?P<text>(?:[^']|'')*)'
    |\$(?P<parameter>[A-Za-z_]\w*)
    |(?P<word>[A-Za-z_]\w*)
    |"(?P<quoted>[^"]+)"
    |(?P<sign>::|:=|<>|!=|<=|>=|\|\||[-+*/%=<>(),.\[\]{}:])""",
    re.DOTALL | re.VERBOSE,
)


class Token(NamedTuple):
    """One token: its kind (a group of the pattern), and its text; words in lower case."""

    kind: str
    text: str


END = Token("end", "")


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of an SQL text, the end included; raises NotDirect for any other sign."""
    found, at = [], 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise NotDirect
        at, kind = match.end(), match.lastgroup
        if kind is None:
            continue
        text = match[kind]
        if kind == "word":
            text = text.lower()
        elif kind == "quoted":
            kind, text = "name", text.lower()
        elif kind == "text":
            text = text.replace("''", "'")
        found.append(Token(kind, text))
    return [*found, END]
