"""Work on this machine, in threads: the measuring kernels let go of the interpreter's lock."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(fn: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """Yield ``fn(item)`` for each item in order, with up to ``jobs`` of them under way at once.

    Items are drawn only a little ahead of what the reader takes, so an endless iterable is
    fine. The first error is raised in its turn; what has not begun by then never does. One job
    works in the calling thread.
    """
    if jobs <= 1:
        yield from map(fn, items)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - not for one job

    pool = ThreadPoolExecutor(jobs, thread_name_prefix="sentinel")
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(fn, item))
            if len(ahead) > jobs:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Waiting here would keep Ctrl-C from whoever can tell the threads to stop.
        pool.shutdown(wait=False, cancel_futures=True)


def share_threads(fn: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> list[Result]:
    """Return ``fn(item)`` for each item in order, by the calling thread and ``jobs`` - 1 others.

    For many short pieces of work: each thread takes the next piece itself, and none waits for
    another's. The first error ends the work of all and is raised.
    """
    found: dict[int, Result] = {}
    errors: list[Exception] = []
    left = iter(range(len(items)))

    def work() -> None:
        try:
            for at in left:
                if errors:
                    return
                found[at] = fn(items[at])
        except Exception as error:  # noqa: BLE001 - raised by the calling thread
            errors.append(error)

    others = [threading.Thread(target=work, daemon=True) for _ in range(jobs - 1)]
    for other in others:
        other.start()
    try:
        work()
    finally:
        # Also after Ctrl-C, which nobody catches here: what has not begun never does.
        for _ in left:
            pass
    for other in others:
        other.join()
    if errors:
        raise errors[0]
    return [found[at] for at in range(len(items))]


def cores(root: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return how many processors this process may use: its affinity, and its cgroup's quota.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files; of version 1 the
    quota of the group that is mounted as its own root, as in a container.
    """
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *map(math.ceil, _quotas(root, membership))]))


def _quotas(root: Path, membership: Path) -> Iterator[float]:
    """Yield the processors that a quota is worth, of every group this process is in."""
    for line in _text(membership).splitlines():
        own = line.partition("::")[2].strip("/")
        for group in (root / own, *(root / own).parents):
            quota, _, period = _text(group / "cpu.max").partition(" ")
            if quota.isdigit() and period.strip().isdigit():
                yield int(quota) / max(1, int(period))
            if group == root:
                break
    quota, period = (_text(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.strip().isdigit() and period.strip().isdigit():
        yield int(quota) / max(1, int(period))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
