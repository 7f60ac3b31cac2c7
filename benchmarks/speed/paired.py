"""Two ways of doing a thing in turn, and how often one goes into the other.

What else the machine does falls on both alike, so a ratio of neighbours tells more than two
times; beside the wall clock the processor's time is taken, which waiting does not lengthen.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Taken(NamedTuple):
    """Seconds of one run: by the wall clock, and of all processors together."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians over pairs: the times of each, and the ratios of the other's to the first's."""

    first: Taken
    other: Taken
    wall_ratio: float
    cpu_ratio: float
    spread: tuple[float, float]
    """The quartiles of the wall ratio."""


def compare(first: Callable[[], Taken], other: Callable[[], Taken], *, rounds: int) -> Compared:
    """Run both in turn, once to warm up and then ``rounds`` times."""
    pairs = [(first(), other()) for _ in range(rounds + 1)][1:]
    wall = [theirs.wall_s / mine.wall_s for mine, theirs in pairs]
    cpu = [theirs.cpu_s / mine.cpu_s for mine, theirs in pairs]
    quartiles = statistics.quantiles(wall, n=4) if rounds > 1 else [wall[0]] * 3
    return Compared(
        _median([mine for mine, _ in pairs]),
        _median([theirs for _, theirs in pairs]),
        statistics.median(wall),
        statistics.median(cpu),
        (quartiles[0], quartiles[2]),
    )


def here(fn: Callable[[], object]) -> Callable[[], Taken]:
    """Return a run of a function in this process."""

    def run() -> Taken:
        wall, cpu = time.perf_counter(), time.process_time()
        fn()
        return Taken(time.perf_counter() - wall, max(1e-9, time.process_time() - cpu))

    return run


def command(words: Sequence[str], **environment: str) -> Callable[[], Taken]:
    """Return a run of a command, its output thrown away; raises when it is not there."""

    def run() -> Taken:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall = time.perf_counter()
        subprocess.run(
            list(words),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            check=False,
        )
        taken = time.perf_counter() - wall
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Taken(taken, max(1e-9, cpu))

    return run


def _median(taken: Sequence[Taken]) -> Taken:
    return Taken(
        statistics.median(one.wall_s for one in taken),
        statistics.median(one.cpu_s for one in taken),
    )
