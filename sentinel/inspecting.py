"""Reading a checkpoint: opened once it is settled, measured, and read again when it changed.

This needs no rules and may run in a worker process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sentinel.checkpoint import Checkpoint, Fault, identity
from sentinel.errors import ChangedWhileReadError, InputError
from sentinel.formats.logs.beside import with_log
from sentinel.formats.opening import Candidate, open_checkpoint, open_found
from sentinel.stats.measure import Measured, measure
from sentinel.stats.quick import Depth
from sentinel.stats.remembered import Remembering
from sentinel.stats.zero_tail import zero_tails

READ_ATTEMPTS = 3
"""How often a file that changes while it is read is read again before it is called unreadable."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What reading alone tells: the checkpoint and its statistics (None: nothing measurable)."""

    checkpoint: Checkpoint
    measured: Measured | None


def inspect(
    path: Path, *, digest: bool = False, tick: Callable[[int], None] | None = None
) -> Inspected:
    """Open and measure one checkpoint.

    A file that cannot be read to its end becomes a fault of the checkpoint. Raises
    ChangedWhileReadError when the checkpoint changed meanwhile: it is not settled yet.
    """
    return _measure(open_checkpoint(path), digest=digest, tick=tick)


def inspect_opened(
    _path: Path,
    *,
    opened: Checkpoint,
    digest: bool,
    tick: Callable[[int], None] | None,
    jobs: int,
) -> Inspected:
    """Measure a checkpoint that another process opened, with up to ``jobs`` threads.

    What comes back has no ``tensors``: who handed the checkpoint over has them, and moving those
    of an adapter costs as much as opening it. Otherwise as `inspect`.
    """
    found = _measure(opened, digest=digest, tick=tick, jobs=jobs)
    return replace(found, checkpoint=replace(found.checkpoint, tensors=()))


def open_settled(candidate: Candidate, settle_s: float) -> Checkpoint:
    """Open a checkpoint once nothing below it was written for a moment."""
    checkpoint = open_found(candidate.path, candidate.layout)
    newest_ns = max((member.mtime_ns for member in checkpoint.members), default=0)
    wait_s = settle_s - (time.time_ns() - newest_ns) / 1e9
    if checkpoint.complete or not 0 < wait_s <= settle_s:
        return checkpoint
    time.sleep(wait_s)
    return open_found(candidate.path, candidate.layout)


def read_second(first: Checkpoint, read: Callable[[Checkpoint], Inspected]) -> Inspected | None:
    """Look once more at what looks like zeros; None when nothing changed since they were read.

    Versions 0.8.0-rc of safetensors laid out a file of zeros in full length before they wrote
    into it, so a reading of zeros counts only when the file is still the same after it.
    """
    now = open_found(first.path, first.layout)
    return None if identity(now.members) == identity(first.members) else read(now)


def measure_again(
    checkpoint: Checkpoint,
    *,
    digest: bool,
    tick: Callable[[int], None] | None,
    jobs: int = 1,
    remembered: Remembering | None = None,
    depth: Depth = "whole",
) -> Inspected:
    """Measure with up to ``jobs`` threads, and open again when the files changed meanwhile.

    What ``remembered`` holds of the same bytes is not read again; ``depth`` says how much
    is read, see `sentinel.stats.quick`.
    """
    current = checkpoint
    for _ in range(READ_ATTEMPTS):
        try:
            return _measure(
                current, digest=digest, tick=tick, jobs=jobs, remembered=remembered, depth=depth
            )
        except ChangedWhileReadError as error:
            last = error
            current = open_found(checkpoint.path, checkpoint.layout)
    return Inspected(_with_fault(current, "unreadable-file", last.where, str(last)), None)


def _measure(
    opened: Checkpoint,
    *,
    digest: bool,
    tick: Callable[[int], None] | None,
    jobs: int = 1,
    remembered: Remembering | None = None,
    depth: Depth = "whole",
) -> Inspected:
    checkpoint = with_log(opened)
    if not checkpoint.tensors:
        return Inspected(checkpoint, None)
    try:
        measured = measure(
            checkpoint, digest=digest, tick=tick, jobs=jobs, remembered=remembered, depth=depth
        )
        if depth == "headers":
            return Inspected(checkpoint, measured)
        torn = replace(checkpoint, faults=(*checkpoint.faults, *zero_tails(checkpoint, measured)))
        return Inspected(torn, measured)
    except InputError as error:
        return Inspected(_with_fault(checkpoint, error.rule, error.where, str(error)), None)


def _with_fault(checkpoint: Checkpoint, rule: str, member: str, message: str) -> Checkpoint:
    fault = Fault(rule=rule, part="weights", member=member.strip("'"), message=message)
    return replace(checkpoint, faults=(*checkpoint.faults, fault))
