"""The thread that feeds one tracker: whoever gives it a point goes on at once.

A library that hangs is killed with its process, and one that fails costs its points: what is
written nowhere else is in the health log.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from sentinel.alerting import Tracker
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import ConfigError, SentinelError
from sentinel.priority import Priority
from sentinel.trackers.point import Point
from sentinel.trackers.writing import finish, write

WAITING = 1000
"""So many points wait at most; beyond them the newest is left out."""

WRITE_S = 120.0
"""Importing such a library on a busy machine takes a while."""

END_S = 60.0
"""So long an end of the daemon waits: a short run may end before the library is imported."""

_PRIORITY = Priority(nice=10)
_CHARACTERS = 300


class Feed:
    """One tracker of one daemon."""

    def __init__(self, settings: Tracker, state: Path, on_note: Callable[[str], None]) -> None:
        spec = find_spec(settings.to)
        if (
            spec is None or spec.origin is None
        ):  # a directory `wandb` of the trainer's is no library
            raise ConfigError(
                f"tracker '{settings.to}'",
                fact="is not installed",
                todo=f"run `pip install 'checkpoint-sentinel[{settings.to}]'`",
            )
        self._settings = settings
        self._state = state
        self._on_note = on_note
        self._points: queue.Queue[Point | None] = queue.Queue(WAITING)
        self._said: set[str] = set()
        self._worker = IsolatedWorker(priority=_PRIORITY)
        self._thread = threading.Thread(target=self._work, name=settings.to, daemon=True)
        self._thread.start()

    def put(self, point: Point) -> None:
        """Take a point."""
        try:
            self._points.put_nowait(point)
        except queue.Full:
            self._say(f"tracker '{self._settings.to}': is too slow, points are left out")

    def close(self) -> None:
        """Write what waits and finish, within a time."""
        try:
            self._points.put(None, timeout=END_S)
        except queue.Full:
            return
        self._thread.join(END_S)
        if not self._thread.is_alive():
            self._worker.close()

    def _work(self) -> None:
        while (point := self._points.get()) is not None:
            self._called(partial(self._write, point))
        self._called(self._finish)

    def _write(self, point: Point) -> None:
        hint = self._worker.call(write, self._settings, self._state, point, timeout_s=WRITE_S)
        if hint:
            self._say(hint)

    def _finish(self) -> None:
        self._worker.call(finish, timeout_s=END_S)

    def _called(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SentinelError as error:
            self._say(f"tracker '{self._settings.to}': {error}")
        except Exception as error:  # noqa: BLE001 - a library may raise whatever it likes
            first = (str(error).splitlines() or [""])[0][:_CHARACTERS]
            self._say(f"tracker '{self._settings.to}': {type(error).__name__}: {first}")

    def _say(self, sentence: str) -> None:
        """Say a sentence once: a tracker that is down would say it at every checkpoint."""
        if sentence not in self._said:
            self._on_note(sentence)
        self._said.add(sentence)
