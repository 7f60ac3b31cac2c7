"""Work on this machine, in threads: the measuring kernels let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
