"""Who may do what to a run's parts while others write and read them.

Two locks a run, in files beside the datasets: `naming` for the moment in which a part takes its
name or loses it, `merging` for as long as one process merges. Both end with the process, also by
SIGKILL. Readers take none, but for one from which parts were merged away again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_ASK_AGAIN_S = 0.002
"""A name is given or taken in less than this."""

_MERGE_S = 60.0
"""A reader waits so long at most for a merge to end."""

_REFUSED = (OSError, NotImplementedError)
"""What a file system without locks answers; where nothing can be locked, nothing is merged."""


@contextmanager
def naming(root: Path, run_id: str) -> Iterator[None]:
    """Hold the lock under which parts of a run appear, are replaced and go."""
    lock = _lock(root, run_id, "names")
    try:
        lock.acquire()
    except _REFUSED:
        yield
        return
    try:
        yield
    finally:
        lock.release()


@contextmanager
def merging(root: Path, run_id: str) -> Iterator[bool]:
    """Hold the lock under which a run is merged; the value tells whether it is held.

    It is not when another process merges the run just now, or the file system knows no locks.
    """
    lock = _lock(root, run_id, "merge")
    try:
        lock.acquire(timeout=0)
    except (Timeout, *_REFUSED):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def unmerged(root: Path, run_ids: Iterable[str]) -> Iterator[None]:
    """Keep others from merging some runs while the block lasts, as far as that can be had."""
    with ExitStack() as stack:
        for run_id in run_ids:
            lock = _lock(root, run_id, "merge")
            with suppress(Timeout, *_REFUSED):
                stack.enter_context(lock.acquire(timeout=_MERGE_S))
        yield


def _lock(root: Path, run_id: str, what: str) -> FileLock:
    directory = root / ".locks"
    directory.mkdir(parents=True, exist_ok=True)
    return FileLock(directory / f"{run_id}.{what}.lock", poll_interval=_ASK_AGAIN_S)
