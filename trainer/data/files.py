"""Which files the recipe's patterns name."""

from __future__ import annotations

import glob
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from ..errors import RefusedError
from ..sections.data import Data, Format

STDLIB_PREFIX = "python-stdlib:"
HUB_PREFIX = "hub:"

_SUFFIXES: Mapping[Format, frozenset[str]] = MappingProxyType(
    {
        "text": frozenset({".txt", ".md", ".rst", ".text"}),
        "jsonl": frozenset({".jsonl", ".ndjson"}),
        "parquet": frozenset({".parquet", ".pq"}),
    }
)
"""What is taken from a directory; a file named as such is taken whatever its suffix."""


def find_files(data: Data) -> list[Path]:
    """Return the training files that the recipe's patterns name; `find_held_out` the others."""
    return _find(data.files, data.format)


def find_held_out(data: Data) -> list[Path]:
    """Return the held-out files."""
    return _find(data.eval_files, data.format)


def _find(patterns: Iterable[str], written: Format) -> list[Path]:
    """Return the files sorted within each pattern, each once; datasets are names, not files.

    `python-stdlib:GLOB` looks below the standard library of the running interpreter: text
    that every machine has. Raises RefusedError for a pattern that names nothing.
    """
    if written == "dataset":
        return []
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [file for path in _matches(pattern) for file in _within(path, written)]
        if not matches:
            raise RefusedError(f"data file '{pattern}'", "nothing there", "check the path")
        found.update(dict.fromkeys(matches))
    return list(found)


def _matches(pattern: str) -> Iterable[Path]:
    if pattern.startswith(STDLIB_PREFIX):
        return sorted(Path(sysconfig.get_path("stdlib")).glob(pattern.removeprefix(STDLIB_PREFIX)))
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    return [Path(name) for name in sorted(names)]


def _within(path: Path, written: Format) -> list[Path]:
    """Return a file itself, or what a directory holds at any depth, hidden files left out."""
    if path.is_file():
        return [path]
    suffixes = _SUFFIXES[written]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
