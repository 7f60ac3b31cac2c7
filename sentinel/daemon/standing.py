"""How things stood when the daemon was last here: the newest verdict of each run it knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sentinel.daemon.journal import Journal
from sentinel.daemon.records import Judged


def standing(journal: Path, roots: Sequence[Path]) -> tuple[tuple[Judged, ...], ...]:
    """Return what was judged in each run below some directories, in the order it came."""
    if not journal.exists():
        return ()
    real = [Path(os.path.realpath(root)) for root in roots]
    opened = Journal(journal)
    try:
        ours = [
            run_id
            for run_id, places in opened.runs().items()
            if any(place.is_relative_to(root) for place in places for root in real)
        ]
        return tuple(filter(None, map(opened.judged, ours)))
    finally:
        opened.close()
