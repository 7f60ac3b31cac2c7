"""The trainer's own numbers while it trains, read from the file it appends to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

_TAIL_BYTES = 4096


def last_metrics(output: Path) -> Mapping[str, object]:
    """Return the newest value of each number in ``metrics.jsonl``; nothing while it is not there.

    Only the end of the file is read, and a line that is still being written is left out.
    """
    path = output / "metrics.jsonl"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    newest: dict[str, object] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        newest |= entry
        for name in entry.get("non_finite", ()):
            newest[name] = float("nan")
    return newest
