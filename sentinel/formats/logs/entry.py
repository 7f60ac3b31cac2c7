"""What a log says, as values: entries, and the log of one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One number; ``at_s`` is when it was logged (seconds since 1970), None when not told."""

    step: int
    name: str
    value: float
    at_s: float | None


@dataclass(frozen=True, slots=True)
class Log:
    """The entries of one file in its order, under the house's names.

    ``modified_s`` is when the file was last written; ``is_all`` says that nothing came before
    the first entry.
    """

    path: Path
    entries: tuple[Entry, ...]
    modified_s: float
    is_all: bool
