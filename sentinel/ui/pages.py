"""A page and its parts, and the questions a page can be asked by its address."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from sentinel.errors import SentinelError

PAGE_SIZE = 50
"""Rows of a table that one page shows."""

_LAST_PAGE = 1_000_000
_LONGEST_TEXT = 200


class NotThereError(SentinelError):
    """The address names something that the health log does not know."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a page that can be put in the place of its former self."""

    id: str
    html: str

    @property
    def version(self) -> str:
        """Return what tells this piece from its former self: 16 hexadecimal digits."""
        return hashlib.blake2b(self.html.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Page:
    """A page: ``place`` says which entry of the menu it belongs to.

    ``watches`` is the run whose changes concern it, "*" for those of any, "" for none.
    """

    title: str
    place: str
    parts: tuple[Part, ...]
    watches: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks of a page: its path and the parameters that the page knows.

    ``values`` holds one text a known parameter, "" where it is not given; ``only`` is the part
    that is enough, "" for the whole page.
    """

    path: str
    values: Mapping[str, str]
    only: str = ""

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    @property
    def key(self) -> str:
        """Return the address by which equal questions are equal."""
        return f"{self.only} {self.link()}"

    @property
    def number(self) -> int:
        """Return which page of a table is asked for, from 1."""
        text = self.values["page"]
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else 1  # noqa: PLR2004 - more digits than the last page has
        return min(max(number, 1), _LAST_PAGE)

    @property
    def offset(self) -> int:
        """Return how many rows lie before that page."""
        return (self.number - 1) * PAGE_SIZE

    def choice(self, name: str, choices: Iterable[str], default: str = "") -> str:
        """Return a parameter if it is one of ``choices``, else ``default``."""
        return self.values[name] if self.values[name] in set(choices) else default

    def link(self, **changes: object) -> str:
        """Return the address with some parameters changed; another question begins at page 1."""
        values = {**self.values, **({} if "page" in changes else {"page": ""} if changes else {})}
        values |= {name: str(value) for name, value in changes.items()}
        told = urlencode({name: value for name, value in values.items() if value})
        return f"{self.path}?{told}" if told else self.path


def asked(path: str, given: Mapping[str, str], known: Iterable[str], *, only: str = "") -> Asked:
    """Return what is asked: of the parameters ``given`` those that the page knows, cut short."""
    clean = {name: given.get(name, "").replace("\0", "")[:_LONGEST_TEXT] for name in known}
    return Asked(path, {**clean, "page": given.get("page", "")}, only[:_LONGEST_TEXT])


@dataclass(frozen=True, slots=True)
class Pager:
    """Where in a table one is: rows ``first`` to ``last`` of ``total``, counted from 1."""

    first: int
    last: int
    total: int
    before: str
    after: str

    @classmethod
    def of(cls, question: Asked, shown: int, total: int) -> Pager:
        """Return the place of a page that shows ``shown`` rows; links are "" where none leads."""
        offset = question.offset
        return cls(
            first=offset + 1 if shown else 0,
            last=offset + shown,
            total=total,
            before=question.link(page=question.number - 1) if question.number > 1 else "",
            after=question.link(page=question.number + 1) if offset + shown < total else "",
        )
