"""A place in the tokens of one text."""

from __future__ import annotations

from sentinel.rules.direct.syntax import NotDirect
from sentinel.rules.direct.tokens import END, Token

RESERVED = frozenset(
    {
        "all", "and", "as", "asc", "between", "by", "case", "cross", "desc", "distinct", "else",
        "end", "except", "exists", "filter", "from", "full", "group", "having", "in", "inner",
        "intersect", "is", "join", "left", "like", "limit", "natural", "not", "offset", "on", "or",
        "order", "over", "qualify", "right", "select", "then", "union", "using", "when", "where",
        "window", "with",
    }
)  # fmt: skip
"""Words that cannot be a name where they stand."""

_FURTHEST = 3
"""How many tokens are looked at in one go, at most."""


class Cursor:
    """Reads one token after another."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._marks = [one.text if one.kind in {"word", "sign"} else "" for one in tokens]
        self._marks += [""] * _FURTHEST
        self._at = 0

    @property
    def now(self) -> Token:
        """Return the token not read yet."""
        return self._tokens[self._at]

    def take(self) -> Token:
        """Read one token."""
        token = self._tokens[self._at]
        if token is END:
            raise NotDirect
        self._at += 1
        return token

    def sees(self, *texts: str, ahead: int = 0) -> bool:
        """Tell whether one of these words or signs comes next."""
        return self._marks[self._at + ahead] in texts

    def takes(self, text: str, *following: str) -> bool:
        """Read these words or signs when all of them come next."""
        # Nearly every call asks for one and is told no: a rule's text asks thousands of times.
        if self._marks[self._at] != text:
            return False
        after = self._at + 1
        end = after + len(following)
        if following and tuple(self._marks[after:end]) != following:
            return False
        self._at = end
        return True

    def want(self, text: str) -> None:
        """Read this word or sign, which must come next."""
        if not self.takes(text):
            raise NotDirect

    def name(self) -> str | None:
        """Read a name when one comes next."""
        token = self.now
        if token.kind == "name" or (token.kind == "word" and token.text not in RESERVED):
            return self.take().text
        return None
