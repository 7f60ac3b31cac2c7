"""Whether the health log has changed: looked at by the times of its directories alone.

The daemon is another process, maybe on another machine, and tells nobody. A part appears in its
run's directory by being renamed into it, which sets the directory's time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sentinel.health.schema import CHECKPOINTS, EVENTS

_RUN = "run_id="
_COARSE_S = 2.0
"""Two changes nearer than the file system's clock ticks look like one; FAT's ticks are longest."""

Stamps = Mapping[tuple[str, str], int]


class Watch:
    """Looks at a health log again and again; `changed` says which runs are not as they were."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known, self._fresh = self._look()

    def changed(self) -> frozenset[str]:
        """Return the runs that changed since this was asked last.

        One that changed at the very moment of looking is named again at the next.
        """
        stamps, fresh = self._look()
        before = self._known
        changed = {
            run for run, dataset in stamps if stamps[run, dataset] != before.get((run, dataset))
        }
        gone = {run for run, dataset in before if (run, dataset) not in stamps}
        named = frozenset(changed | gone | self._fresh)
        self._known, self._fresh = stamps, fresh & frozenset(changed | gone)
        return named

    def _look(self) -> tuple[Stamps, frozenset[str]]:
        stamps: dict[tuple[str, str], int] = {}
        fresh = set()
        now = time.time()
        for dataset in (CHECKPOINTS.name, EVENTS.name):
            for run, changed_ns in _runs(self._root / dataset):
                stamps[run, dataset] = changed_ns
                if abs(now - changed_ns / 1e9) < _COARSE_S:
                    fresh.add(run)
        return stamps, frozenset(fresh)


def _runs(directory: Path) -> list[tuple[str, int]]:
    found = []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(_RUN):
                with suppress(OSError):
                    changed_ns = entry.stat().st_mtime_ns
                    found.append((entry.name.removeprefix(_RUN), changed_ns))
    return found
