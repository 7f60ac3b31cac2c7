"""How long a training has shown nothing new: no checkpoint, no line in a log.

What counts is what the trainer writes by itself: checkpoints, the logs that lie where trainers
keep them (JSON lines, TensorBoard event files, `.log` and `.csv` files beside the checkpoints),
and its output where that goes to a file. A process that lives and computes nothing (a collective
that waits for a lost rank, a reader of data that is stuck) shows none of these.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sentinel.errors import InputError
from sentinel.formats.files import list_directory
from sentinel.formats.logs.places import bases_of, event_files_in, json_logs_in

_LOG_SUFFIXES = frozenset({".log", ".csv", ".jsonl"})
_FILES_LIMIT = 200
_PLACES_LIMIT = 16
_LEAST_PACE_S, _MOST_PACE_S = 0.2, 30.0
_LEAST_GAP_S, _MOST_GAP_S = 5.0, 60.0

Size = tuple[str, int, int]


class Progress:
    """The signs of life of one training, from its start or its last checkpoint on.

    ``roots`` are the directories it writes checkpoints to; ``outputs`` files, or descriptors of
    files, that its own output goes to.
    """

    def __init__(
        self,
        after_s: float,
        roots: Iterable[Path],
        *,
        outputs: Sequence[Path | int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._after_s = after_s
        self._outputs = tuple(outputs)
        self._clock = clock
        # Between two looks a machine may have slept, or a large checkpoint been read.
        self._gap_s = min(max(after_s / 2, _LEAST_GAP_S), _MOST_GAP_S)
        self.pace_s = min(max(after_s / 10, _LEAST_PACE_S), _MOST_PACE_S)
        self._places: dict[Path, None] = {}
        for root in roots:
            self.beside(root / "checkpoint")
        self._seen: tuple[Size, ...] = ()
        self._read_at_s = -math.inf
        self.moved()

    def beside(self, checkpoint: Path) -> None:
        """Look for logs beside this checkpoint too."""
        for place in bases_of(checkpoint):
            self._places.pop(place, None)
            self._places[place] = None
        while len(self._places) > _PLACES_LIMIT:
            del self._places[next(iter(self._places))]

    def moved(self) -> None:
        """Count from here on: something new was seen."""
        self._moved_s = self._looked_s = self._clock()
        self._told = False

    def look(self) -> float | None:
        """Return for how many seconds nothing moved, once, when that is too long; else None."""
        now_s = self._clock()
        if now_s - self._looked_s > self._gap_s:
            self.moved()
        self._looked_s = now_s
        is_late = now_s - self._moved_s >= self._after_s
        if now_s >= self._read_at_s or (is_late and not self._told):
            self._read_at_s = now_s + self.pace_s
            if self._has_grown():
                self.moved()
        still_s = now_s - self._moved_s
        if self._told or still_s < self._after_s:
            return None
        self._told = True
        return still_s

    def _has_grown(self) -> bool:
        seen = tuple(sorted(self._sizes()))
        grown = seen != self._seen
        self._seen = seen
        return grown

    def _sizes(self) -> Iterator[Size]:
        for output in self._outputs:
            yield from _size(output)
        for place in self._places:
            for path in (*json_logs_in(place), *event_files_in(place, math.inf), *_logs_in(place)):
                yield from _size(path)


def _logs_in(place: Path) -> Iterator[Path]:
    try:
        files, _ = list_directory(place)
    except InputError:
        return
    logs = [name for name in files if os.path.splitext(name)[1] in _LOG_SUFFIXES]  # noqa: PTH122
    yield from (place / name for name in logs[:_FILES_LIMIT])


def _size(file: Path | int) -> Iterator[Size]:
    try:
        found = os.stat(file)  # noqa: PTH116 - also of a descriptor
    except OSError:
        return
    yield (str(file), found.st_size, found.st_mtime_ns)
