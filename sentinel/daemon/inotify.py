"""Watchdog's inotify observer, made to tell what it otherwise keeps to itself.

Watchdog (7.1) repairs its watches after an overflow of the kernel's queue but tells no handler
that events were lost, and it passes over a directory below the root for which there is no watch
left. Both happen in `InotifyFD`, so that is the class to listen in on. And it ends in a KeyError
when a directory was moved out of the tree, another took its name, and both are gone: a
quarantine followed by the trainer's own rotation. `_Group` forgets a watch without that.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable

from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

# A directory that vanished before it could be watched is none that is missed.
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class InotifyObserver(BaseObserver):
    """Watch with inotify; ``on_lost()`` after an overflow, ``on_refused(path, error)``.

    Both are called from inotify's own thread, after the watches were repaired.
    """

    def __init__(
        self, *, on_lost: Callable[[], None], on_refused: Callable[[str, OSError], None]
    ) -> None:
        # Directories made in one go are found twice, by walking and by their own event; the
        # second watch replaces the first, and watchdog would warn the user of it each time.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        self._kernel = _Kernel(on_lost, on_refused)
        self._kernel.start()
        super().__init__(_Emitter, inotify_fd=self._kernel)

    def on_thread_stop(self) -> None:
        """Stop the emitters first, then the thread that reads the kernel's queue."""
        super().on_thread_stop()
        self._kernel.stop()
        self._kernel.join()


class _Emitter(InotifyEmitter):
    def on_thread_start(self) -> None:
        self._inotify = _Group(
            self._inotify_fd,
            os.fsencode(self.watch.path),
            is_recursive=self.watch.is_recursive,
            event_mask=self.get_event_mask_from_filter(),
            follow_symlink=self.watch.follow_symlink,
        )


class _Group(InotifyWatchGroup):
    def _remove_watch_internally(self, wd: WatchDescriptor) -> None:
        path = self._active_callbacks_by_watch.pop(wd, None)
        if path is not None and self._active_callbacks_by_path.get(path) == wd:
            del self._active_callbacks_by_path[path]


class _Kernel(InotifyFD):
    def __init__(
        self, on_lost: Callable[[], None], on_refused: Callable[[str, OSError], None]
    ) -> None:
        super().__init__()
        self._on_lost = on_lost
        self._on_refused = on_refused

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:
            self._on_lost()

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno not in _GONE:
                self._on_refused(os.fsdecode(path), error)
            raise
