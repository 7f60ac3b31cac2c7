"""Files of one JSON object a line, as logs are: what is whole of them, or of their end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sentinel.formats.files import open_regular

TAIL_LIMIT_BYTES = 8 * 1024 * 1024
LINES_LIMIT = 50_000
LINE_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class JsonLines:
    """The last objects of a file in its order; ``is_all``: no line came before."""

    objects: tuple[Mapping[str, object], ...]
    is_all: bool


def read_json_lines(path: Path) -> JsonLines:
    """Return the objects in the last 8 MiB and 50,000 lines; bare NaN and Infinity are taken.

    A line that is no JSON object, over 64 KiB long or still being written is passed over.
    Raises as `open_regular` does.
    """
    with open_regular(path) as (file, size_bytes):
        start = max(0, size_bytes - TAIL_LIMIT_BYTES)
        file.seek(start)
        lines = file.read(TAIL_LIMIT_BYTES).split(b"\n")
    if start:
        # Whatever was cut in two.
        del lines[0]
    is_all = start == 0 and len(lines) <= LINES_LIMIT
    found = (_object(line) for line in lines[-LINES_LIMIT:])
    return JsonLines(tuple(entry for entry in found if entry is not None), is_all)


def _object(line: bytes) -> Mapping[str, object] | None:
    if not 1 < len(line) <= LINE_LIMIT_BYTES:
        return None
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
