"""Reading no faster than was allowed, so that the disk is left to those who need it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_SHORTEST_S = 0.01
"""Shorter rests are saved up: waking takes longer than they last."""


@dataclass(slots=True)
class Pace:
    """A token bucket that is told of bytes once they are read, and rests until they are paid for.

    What is told at once is the burst: a reader tells of at most 16 MiB. Time in which nothing is
    read earns one second's worth at most.
    """

    bytes_per_s: int
    clock: Callable[[], float] = time.monotonic
    rest: Callable[[float], None] = time.sleep
    _paid_until_s: float = field(default=0.0, init=False)

    def took(self, size_bytes: int) -> None:
        """Hear that some bytes were read, and rest when that was too fast."""
        now_s = self.clock()
        begin_s = max(self._paid_until_s, now_s - 1.0)
        self._paid_until_s = begin_s + size_bytes / self.bytes_per_s
        owed_s = self._paid_until_s - now_s
        if owed_s > _SHORTEST_S:
            self.rest(owed_s)
