"""How a mistake in a rule is told: file, line, fact and the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sentinel.errors import RuleError

KeyPath = tuple[str | int, ...]
"""Where in a rule file something stands: ("examples", 0, "tables", "pairs")."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The file a rule came from, with the line of every key in it."""

    path: Path
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    text: str = ""

    def line_of(self, key: KeyPath, word: str = "") -> int:
        """Return the line of a key, or of a word inside its value when it stands there."""
        while key and key not in self.lines:
            key = key[:-1]
        first = self.lines.get(key, 1)
        following = [line for line in self.lines.values() if line > first]
        last = min(following, default=self.text.count("\n") + 2)
        for number, line in enumerate(self.text.splitlines()[first - 1 : last - 1], start=first):
            if word and word in line:
                return number
        return first

    def mistake(
        self, rule_id: str | None, key: KeyPath, fact: str, todo: str = "", *, word: str = ""
    ) -> RuleError:
        """Build the error for something wrong at a key of this file."""
        what = f"rule '{rule_id}'" if rule_id else "rule file"
        where = f"in '{self.path}:{self.line_of(key, word)}'"
        return RuleError(what, where=where, fact=fact, todo=todo)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest choice, else all choices in short."""
    import difflib  # noqa: PLC0415 - only for who made a mistake

    known = sorted(choices)
    nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if nearest:
        return f"did you mean '{nearest[0]}'?"
    return f"it is one of {', '.join(known)}" if known else ""
