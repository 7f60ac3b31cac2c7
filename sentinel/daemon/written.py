"""When a checkpoint was written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def written_s(path: Path) -> float | None:
    """Return when a checkpoint was last written (seconds since 1970), None when it is gone."""
    times = []
    with suppress(OSError):
        times.append(path.stat().st_mtime)
        if path.is_dir():
            with os.scandir(path) as entries:
                times.extend(entry.stat().st_mtime for entry in entries if entry.is_file())
    return max(times, default=None)
