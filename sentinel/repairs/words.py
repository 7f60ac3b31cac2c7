"""Options among the words of a command: what they say, and the words without them.

Names are compared without leading dashes and with underscores, as argparse, HfArgumentParser and
click take them alike: `--learning-rate`, `--learning_rate=1e-4`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sentinel.repairs.recipes import Value

_OPTION = re.compile(r"(--?[A-Za-z][\w.\-]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Told:
    """One option among words: those from ``start`` up to ``end`` tell it and its values."""

    name: str
    values: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Grammar:
    """How many words belong to an option: none to ``flags``, any number to ``lists``, else one."""

    flags: Collection[str] = ()
    lists: Collection[str] = ()

    def told(self, words: Sequence[str]) -> Iterator[Told]:
        """Yield the options in their order."""
        at = 0
        while at < len(words):
            match = _OPTION.fullmatch(words[at])
            start, at = at, at + 1
            if match is None:
                continue
            name = plain(match[1])
            if match[2] is not None:
                yield Told(name, (match[2],), start, at)
                continue
            most = 0 if name in self.flags else len(words) if name in self.lists else 1
            while at < len(words) and at - start <= most and not _OPTION.fullmatch(words[at]):
                at += 1
            yield Told(name, tuple(words[start + 1 : at]), start, at)

    def values(self, words: Sequence[str], name: str) -> tuple[str, ...] | None:
        """Return what an option was given last, empty for nothing, None when it is not there."""
        found = [told.values for told in self.told(words) if told.name == plain(name)]
        return found[-1] if found else None

    def without(self, words: Sequence[str], name: str) -> list[str]:
        """Return the words without an option and its values."""
        kept: list[str] = []
        at = 0
        for told in self.told(words):
            if told.name == plain(name):
                kept += words[at : told.start]
                at = told.end
        return [*kept, *words[at:]]

    def with_option(self, words: Sequence[str], option: str, value: Value | list[str]) -> list[str]:
        """Return the words with an option set and the user's own taken away."""
        kept = self.without(words, option)
        if value is None or (plain(option) in self.flags and value is False):
            return kept
        if plain(option) in self.flags:
            return [*kept, option]
        return [*kept, option, *(value if isinstance(value, list) else [text_of(value)])]

    def plain_words(self, words: Sequence[str]) -> list[str]:
        """Return the words that are no option and belong to none."""
        taken = {at for told in self.told(words) for at in range(told.start, told.end)}
        return [word for at, word in enumerate(words) if at not in taken]


def plain(name: str) -> str:
    """Return an option's name without dashes."""
    return name.lstrip("-").replace("-", "_")


def text_of(value: Value) -> str:
    """Return a value as a word: true and false in small letters, numbers as short as exact."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)
