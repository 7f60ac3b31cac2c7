"""The bytes of one pickle, taken piece by piece: no length is believed before it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sentinel.errors import InputError, TruncatedError

if TYPE_CHECKING:
    from typing import BinaryIO

PICKLE_LIMIT_BYTES = 64 * 1024 * 1024
"""A checkpoint's pickle only describes tensors, which lie elsewhere."""

LINE_LIMIT_BYTES = 4096


class PickleSource:
    """A file from its current position on; ``size_bytes`` are left in it.

    ``subject`` names the file in messages ("file 'a/optimizer.pt'").
    """

    def __init__(self, file: BinaryIO, size_bytes: int, subject: str) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._begin = file.tell()
        self._left = size_bytes
        self.subject = subject
        self.at = 0

    def again(self, at: int) -> PickleSource:
        """Return the same bytes from a place on; this source is of no use any more."""
        self._file.seek(self._begin + at)
        return PickleSource(self._file, self._size_bytes - at, self.subject)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        if count > self._left:
            raise self._truncated(count)
        if self.at + count > PICKLE_LIMIT_BYTES:
            self.refuse(f"is longer than {PICKLE_LIMIT_BYTES} bytes")
        found = self._file.read(count)
        if len(found) != count:
            raise self._truncated(count)
        self.at += count
        self._left -= count
        return found

    def number(self, count: int) -> int:
        """Return an unsigned little-endian number of ``count`` bytes."""
        return int.from_bytes(self.take(count), "little")

    def line(self) -> bytes:
        """Return the bytes up to the next line feed, without it."""
        found = self._file.readline(min(LINE_LIMIT_BYTES, self._left))
        self.at += len(found)
        self._left -= len(found)
        if found.endswith(b"\n"):
            return found[:-1]
        if self._left:
            self.refuse(f"has a line of more than {LINE_LIMIT_BYTES} bytes")
        raise self._truncated(1)

    def refuse(self, fact: str) -> NoReturn:
        """Raise InputError for something that no writer of checkpoints leaves in a pickle."""
        raise InputError(
            self.subject,
            where=f"at byte {self.at} of its pickle",
            fact=fact,
            todo="it is damaged or no checkpoint",
        )

    def _truncated(self, count: int) -> TruncatedError:
        return TruncatedError(
            self.subject,
            where=f"at byte {self.at} of its pickle",
            fact=f"{count} more bytes should follow, {self._left} do",
            todo="the write was cut short, or is still going on",
        )
