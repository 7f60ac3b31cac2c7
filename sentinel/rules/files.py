"""Where the catalogue lies, and which of its files are rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("content", "run", "file")
"""Where in the catalogue the rules are; its other folders hold other data."""

PACKED = "rules.json"
"""All of them in one file, which a wheel is built with."""


def catalogue() -> Path:
    """Return the directory of the bundled rules: in the wheel, else in the repository."""
    package = Path(__file__).parents[1]
    installed = package / "catalogue"
    return installed if installed.is_dir() else package.parent / "rules"


def bundled_files(root: Path) -> Iterator[Path]:
    """Yield the files of a catalogue's rules, in the order in which they are loaded."""
    for folder in FOLDERS:
        yield from sorted((root / folder).glob("*.yaml"))
