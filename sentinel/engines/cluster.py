"""Work on a Ray cluster: the same `map` as in threads, one task an item, on whichever node is free.

Ray runs a task again when its process or its node dies, so what a task writes must be the same
when it is written twice.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from sentinel.errors import ConfigError, WorkerDiedError

Item = TypeVar("Item")
Result = TypeVar("Result")

ATTEMPTS = 4
"""How often a task is begun whose process died."""

CONNECT_S = 10

_AHEAD = 4
"""Tasks waiting for each of the cluster's processors: results are taken in order."""


class RayEngine:
    """The cluster that `RAY_ADDRESS` names, or the one this machine is a node of."""

    def __init__(self) -> None:
        try:
            import ray  # noqa: PLC0415 - the extra `cluster`
        except ImportError:
            raise ConfigError(
                "--engine ray",
                fact="needs the package ray",
                todo="pip install 'checkpoint-sentinel[cluster]'",
            ) from None
        self._ray: Any = ray
        if not ray.is_initialized():
            try:
                _require_answer(os.environ.get("RAY_ADDRESS", ""))
                ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    "--engine ray",
                    fact=f"finds no cluster ({str(error).splitlines()[0][:120]})",
                    todo="start one with `ray start --head`, or name it in RAY_ADDRESS",
                ) from None

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``fn(item)`` for each item in order; both must pickle, as must the results.

        What ``fn`` raises is raised here. Raises WorkerDiedError when a task's process died
        each time it was begun, or a node lacks what it calls.
        """
        ray = self._ray
        call = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, scheduling_strategy="SPREAD")(_call)
        shared = ray.put(fn)
        limit = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        ahead: deque[Any] = deque()
        try:
            for item in items:
                ahead.append(call.remote(shared, item))
                if len(ahead) >= limit:
                    yield self._result(ahead.popleft())
            while ahead:
                yield self._result(ahead.popleft())
        finally:
            for reference in ahead:
                ray.cancel(reference)

    def _result(self, reference: Any) -> Any:
        rays_own = self._ray.exceptions.RayError
        try:
            return self._ray.get(reference)
        except rays_own as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception) and not isinstance(cause, rays_own):
                raise cause from None
            first = str(cause or error).splitlines()[0]
            raise WorkerDiedError(
                "task on the cluster",
                fact=f"failed, begun up to {ATTEMPTS} times ({first[:160]})",
                todo="look at the node's log, and whether sentinel is installed there",
            ) from None


def _require_answer(address: str) -> None:
    """Raise OSError when nobody listens at an address: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_S).close()


def _call(fn: Callable[[Item], Result], item: Item) -> Result:
    """Run on a node: what is called there and here is one code."""
    return fn(item)
