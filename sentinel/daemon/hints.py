"""What file system events leave behind until somebody takes it: sets, and a bell.

Events come in other threads, in bursts, twice and out of order, so nothing is done with them
but to remember where to look. `wake` may be called in a signal handler: it takes no lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from watchdog.events import (
    DirDeletedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)


@dataclass(slots=True)
class Taken:
    """What was hinted at since the last time; ``refused`` maps a directory to the reason."""

    dirty: set[Path] = field(default_factory=set)
    closed: set[Path] = field(default_factory=set)
    vanished: set[Path] = field(default_factory=set)
    refused: dict[str, OSError] = field(default_factory=dict)
    lost: bool = False


class Hints:
    """One thread-safe heap of hints for any number of watched roots."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Taken()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = False
        self._woken = False

    def add(
        self,
        *,
        dirty: Iterable[Path] = (),
        closed: Iterable[Path] = (),
        vanished: Iterable[Path] = (),
    ) -> None:
        """Remember directories whose entries changed, files closed, roots that are gone."""
        with self._lock:
            self._now.dirty.update(dirty)
            self._now.closed.update(closed)
            self._now.vanished.update(vanished)
            self._ring()

    def lose(self) -> None:
        """Remember that the kernel dropped events."""
        with self._lock:
            self._now.lost = True
            self._ring()

    def refuse(self, path: str, error: OSError) -> None:
        """Remember that a directory cannot be watched."""
        with self._lock:
            self._now.refused[path] = error
            self._ring()

    def wake(self) -> None:
        """End the wait under way, or else the next one; safe in a signal handler."""
        self._woken = True
        self._bell.put(None)  # the one queue that may be put into in the middle of its own get

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to take, at most ``timeout_s`` seconds."""
        with suppress(Empty):
            self._bell.get(timeout=max(0.0, timeout_s))

    def take(self) -> Taken:
        """Return all hints and begin anew."""
        with self._lock:
            taken, self._now = self._now, Taken()
            self._rung = False
        return taken

    def take_woken(self) -> bool:
        """Tell whether `wake` was called since the last time."""
        woken, self._woken = self._woken, False
        return woken

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.put(None)


class HintingHandler(FileSystemEventHandler):
    """Turn watchdog's events below one root into hints, under the path the user gave.

    ``given`` may lead through symbolic links that ``real``, the directory watched, does not.
    """

    def __init__(self, hints: Hints, given: Path, real: str) -> None:
        self._hints = hints
        self._given = given
        self._real = real

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Hint at the directories an event touches, and at a file that was closed."""
        source = os.fsdecode(event.src_path)
        if source == self._real:
            gone = [self._given] if isinstance(event, DirDeletedEvent) else []
            self._hints.add(vanished=gone, dirty=[self._given])
            return
        dirty = {self._as_given(source).parent}
        appeared = os.fsdecode(event.dest_path) or source
        if appeared != source:
            dirty.add(self._as_given(appeared).parent)
        if event.is_directory and not isinstance(event, (DirDeletedEvent, FileDeletedEvent)):
            dirty.add(self._as_given(appeared))
        closed = isinstance(event, FileClosedEvent)
        self._hints.add(dirty=dirty, closed=[self._as_given(source)] if closed else [])

    def _as_given(self, path: str) -> Path:
        return self._given / os.path.relpath(path, self._real)
