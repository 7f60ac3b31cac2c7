"""Having a settled checkpoint measured by the process that reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from sentinel.checkpoint import Checkpoint
from sentinel.engines.local import cores
from sentinel.engines.pace import Pace
from sentinel.flow import Inspected
from sentinel.inspecting import inspect_opened

Read = TypeVar("Read")

BURST_BYTES = 256 * 1024 * 1024
"""Up to so many bytes two threads share a checkpoint: for a fifth of a second at most they take
a second core, as far as the training leaves it. What takes longer keeps to one."""

_BURST_JOBS = 2


class Reader(Protocol):
    """Whoever runs the reading: the same process, or one that may die in its place."""

    def call(self, fn: Callable[[Path], Read], path: Path) -> Read:
        """Return ``fn(path)``; raises WorkerDiedError."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of what was opened here: its headers are not read a second time."""

    reader: Reader
    bytes_per_s: int | None = None

    def __call__(self, opened: Checkpoint) -> Inspected:
        """Return the numbers of a checkpoint; raises as `inspect` and the reader do."""
        tick = None if self.bytes_per_s is None else Pace(self.bytes_per_s).took
        jobs = self._jobs(opened)
        measure = partial(inspect_opened, opened=opened, digest=True, tick=tick, jobs=jobs)
        found = self.reader.call(measure, opened.path)
        return replace(found, checkpoint=replace(found.checkpoint, tensors=opened.tensors))

    def _jobs(self, opened: Checkpoint) -> int:
        # A pace is one thread's: its reader rests.
        size_bytes = sum(member.size_bytes for member in opened.members)
        if self.bytes_per_s is not None or size_bytes > BURST_BYTES:
            return 1
        return min(_BURST_JOBS, cores())
