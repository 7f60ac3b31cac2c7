"""A remote file read in ranges: small ones where a header jumps, large ones where values follow.

A window of the file is kept a thread. It doubles as long as reading goes on where it ended and
begins small again after a jump, so that a header costs little more than its own bytes and values
come in few requests.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from io import RawIOBase
from typing import TYPE_CHECKING, Any

from sentinel.remote.errors import asking

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from sentinel.remote.systems import System

LEAST_BYTES = 64 * 1024
MOST_BYTES = 16 * 1024 * 1024
"""The window's sizes: memory is this much for each thread that reads a file."""

_ALONE = threading.Lock()


class _Window(threading.local):
    """What one thread holds of a file."""

    file: Any = None
    start: int = 0
    data: memoryview = memoryview(b"")
    size_bytes: int = LEAST_BYTES


class RangeFile(RawIOBase):
    """An unbuffered file elsewhere, as `open(path, "rb", buffering=0)` gives one of this machine.

    Several threads may call `read_at` at once. Raises OSError where the server refuses, and
    RemoteChangedError where it says that the file is another one by now.
    """

    def __init__(self, system: System, address: str) -> None:
        super().__init__()
        self._system = system
        self._address = address
        self._at = 0
        self._window = _Window()
        self.size_bytes = system.status(address).size_bytes

    def read_at(self, offset: int, view: memoryview) -> int:
        """Read some bytes at a place, 0 at the file's end."""
        window = self._window
        held = window.start <= offset < window.start + len(window.data)
        if not held and not self._fetch(offset, len(view)):
            return 0
        begin = offset - window.start
        part = window.data[begin : begin + len(view)]
        view[: len(part)] = part
        return len(part)

    def readinto(self, target: Buffer) -> int:
        """Read some bytes at the position."""
        count = self.read_at(self._at, memoryview(target).cast("B"))
        self._at += count
        return count

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        self._at = offset + (0, self._at, self.size_bytes)[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def _fetch(self, offset: int, wanted: int) -> int:
        """Fetch the window that begins at a place; return how many bytes came."""
        window = self._window
        goes_on = offset == window.start + len(window.data)
        window.size_bytes = min(window.size_bytes * 2, MOST_BYTES) if goes_on else LEAST_BYTES
        size = min(MOST_BYTES, max(window.size_bytes, wanted), self.size_bytes - offset)
        if size <= 0:
            return 0
        if window.file is None:
            window.file = self._system.open(self._address)
        # Files that are no ranges of a server, as those in memory, are one for all threads.
        alone = nullcontext() if hasattr(window.file, "cache") else _ALONE
        with asking(self._address), alone:
            window.file.seek(offset)
            data = window.file.read(size)
        window.start, window.data = offset, memoryview(data)
        return len(data)
