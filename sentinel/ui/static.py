"""The few files the pages need, read once: nothing is looked for by a name that was asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sentinel.reports.charts.theme import DARK, LIGHT, css_variables
from sentinel.reports.picture.templates import page_file

UI_FILES = Path(__file__).parent / "page_files"
"""Where the templates of the live page lie, its style and its script."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent: ``kind`` is its media type."""

    kind: str
    data: bytes


class Static:
    """The files by name; ``addresses`` change with what a file holds, so that it may be kept."""

    def __init__(self) -> None:
        self._files: Mapping[str, File] = {
            "style.css": File("text/css", _style().encode()),
            "report.js": File("text/javascript", page_file("script.js").encode()),
            "ui.js": File("text/javascript", (UI_FILES / "ui.js").read_bytes()),
            "favicon.svg": File("image/svg+xml", (UI_FILES / "favicon.svg").read_bytes()),
        }
        self.addresses: Mapping[str, str] = {
            name: f"/static/{name}?v={hashlib.blake2b(file.data, digest_size=6).hexdigest()}"
            for name, file in self._files.items()
        }

    def file(self, name: str) -> File | None:
        """Return one of the files, None for any other name."""
        return self._files.get(name)


def _style() -> str:
    """Return the report's style, its colours, and what the live page adds."""
    return "\n".join(
        [
            f":root{{{css_variables(LIGHT)}}}",
            f"@media (prefers-color-scheme:dark){{:root{{{css_variables(DARK)}}}}}",
            f"@media print{{:root{{{css_variables(LIGHT)}}}}}",
            page_file("style.css"),
            (UI_FILES / "ui.css").read_text(encoding="utf-8"),
        ]
    )
