"""Which directories may hold something new: events where they reach, polling where they do not.

Events are hints about where to look and never facts: every one may be missing, doubled or late.
What makes the daemon miss nothing is looking at everything again: at the start, after lost
events, when a root appears, and once in a while.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
)
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserver

from sentinel.daemon.hints import HintingHandler, Hints
from sentinel.daemon.polling import limit_sentence, remote_mount, remote_sentence

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

POLL_S = 2.0
RESCAN_S = 120.0

RESCAN_SHARE = 0.004
"""Looking at everything again takes this share of a core at most, however much there is."""

# Opening and reading are left out: they are mostly our own. So is every single write where the
# end of writing is told (inotify): a growing file of 10 GB would flood the queue.
_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
_EVENTS_AND_WRITES = [*_EVENTS, FileModifiedEvent]

_LOST = (
    "file events were lost (the queue fs.inotify.max_queued_events overflowed): "
    "looking at everything again"
)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Where to look: directories whose entries changed, and files whose writer closed them.

    ``rescan`` says that the hints may be incomplete: look at everything below the roots.
    """

    dirty: frozenset[Path]
    closed: frozenset[Path]
    rescan: bool


@dataclass(slots=True)
class _Root:
    given: Path
    polled: bool = False
    inode: tuple[int, int] | None = None
    observer: BaseObserver | None = None
    watch: ObservedWatch | None = None


class Arrivals:
    """A watch over ``roots`` while the ``with`` block lasts; a root need not exist yet.

    Every ``poll_s`` seconds roots that came, went or were replaced are noticed and polled ones
    are looked through; every ``rescan_s`` seconds, or less often where that takes long, everything
    is due for a look. ``on_note`` gets
    one sentence when a root must be polled or events were lost, in the thread that calls `take`.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        recursive: bool = True,
        poll_s: float = POLL_S,
        rescan_s: float = RESCAN_S,
        on_note: Callable[[str], None],
    ) -> None:
        once_each = {os.path.realpath(root): root for root in roots}
        self._roots = [_Root(root) for root in once_each.values()]
        self._recursive = recursive
        self._poll_s = poll_s
        self._rescan_s = rescan_s
        self._on_note = on_note
        self._hints = Hints()
        self._native: BaseObserver | None = None
        self._polling: BaseObserver | None = None
        self._silence = logging.NullHandler()
        self._tend_at_s = self._rescan_at_s = -math.inf

    def __enter__(self) -> Self:
        # What watchdog logs reaches the user through `on_note`, once and in our words.
        logging.getLogger("watchdog").addHandler(self._silence)
        try:
            self._native = _native_observer(self._hints)
            self._native.start()
        except OSError as error:
            self._native = None
            for root in self._roots:
                self._poll(root, limit_sentence(root.given, error))
        self._tend()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for observer in (self._native, self._polling):
            if observer is not None:
                observer.stop()
                observer.join()
        logging.getLogger("watchdog").removeHandler(self._silence)

    def wake(self) -> None:
        """Make `take` return at once; may be called in a signal handler."""
        self._hints.wake()

    def take(self, timeout_s: float | None = None) -> Arrived:
        """Wait until something may be new, `wake` or the timeout; return it once.

        The first call asks for a look at everything. None waits without end.
        """
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if time.monotonic() >= self._tend_at_s:
                self._tend()
            arrived = self._arrived()
            woken = self._hints.take_woken()
            now = time.monotonic()
            if woken or now >= deadline or arrived.rescan or arrived.dirty or arrived.closed:
                return arrived
            self._hints.wait(min(deadline, self._tend_at_s, self._rescan_at_s) - now)

    def looked(self, arrived: Arrived, cpu_s: float) -> None:
        """Hear what it took to look at what `take` returned: a full look that took long is rare."""
        if arrived.rescan:
            rest_s = max(self._rescan_s, cpu_s / RESCAN_SHARE)
            self._rescan_at_s = time.monotonic() + rest_s

    def _arrived(self) -> Arrived:
        taken = self._hints.take()
        if taken.lost:
            self._on_note(_LOST)
        for path, error in taken.refused.items():
            for root in self._roots:
                if not root.polled and _is_below(path, root.given):
                    self._poll(root, limit_sentence(root.given, error))
        for root in self._roots:
            if root.given in taken.vanished:
                self._unwatch(root)
        if taken.lost or taken.refused or taken.vanished:
            self._tend()
        rescan = taken.lost or time.monotonic() >= self._rescan_at_s
        if rescan:
            self._rescan_at_s = time.monotonic() + self._rescan_s
        return Arrived(frozenset(taken.dirty), frozenset(taken.closed), rescan)

    def _tend(self) -> None:
        """Watch what has appeared, leave what has gone, and again what was replaced."""
        self._tend_at_s = time.monotonic() + self._poll_s
        for root in self._roots:
            inode = _inode(root.given)
            if inode != root.inode:
                self._unwatch(root)
            if root.watch is None and inode is not None and self._watch(root):
                root.inode = inode
                self._rescan_at_s = -math.inf  # it may have been filled before it was watched

    def _watch(self, root: _Root) -> bool:
        kind = None if root.polled else remote_mount(root.given)
        if kind:
            self._poll(root, remote_sentence(root.given, kind))
        root.observer = self._polling_observer() if root.polled else self._native
        if root.observer is None:
            return False
        real = os.path.realpath(root.given)
        told_closing = sys.platform == "linux" and not root.polled
        try:
            root.watch = root.observer.schedule(
                HintingHandler(self._hints, root.given, real),
                real,
                recursive=self._recursive,
                event_filter=_EVENTS if told_closing else _EVENTS_AND_WRITES,
            )
        except OSError as error:
            gone = error.errno in {errno.ENOENT, errno.ENOTDIR}
            if gone or root.polled:
                return False  # tried again before long
            self._poll(root, limit_sentence(root.given, error))
            return self._watch(root)
        return True

    def _unwatch(self, root: _Root) -> None:
        if root.observer is not None and root.watch is not None:
            root.observer.unschedule(root.watch)
        root.watch = root.inode = None

    def _poll(self, root: _Root, why: str) -> None:
        self._unwatch(root)
        root.polled = True
        self._on_note(why)

    def _polling_observer(self) -> BaseObserver:
        if self._polling is None:
            self._polling = PollingObserver(timeout=self._poll_s)
            self._polling.start()
        return self._polling


def _native_observer(hints: Hints) -> BaseObserver:
    observer: BaseObserver
    if sys.platform == "linux":
        from sentinel.daemon.inotify import InotifyObserver  # noqa: PLC0415 - Linux only

        observer = InotifyObserver(on_lost=hints.lose, on_refused=hints.refuse)
    else:
        observer = Observer()
    return observer


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if path.is_dir() else None


def _is_below(path: str, root: Path) -> bool:
    real = Path(os.path.realpath(root))
    return real == Path(path) or real in Path(path).parents
