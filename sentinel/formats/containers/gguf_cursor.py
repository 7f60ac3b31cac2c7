"""Walking through a GGUF header: numbers and texts one after another, each checked first.

A text is a 64-bit length and UTF-8 bytes, without a zero at the end
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NoReturn

from sentinel.errors import InputError, TruncatedError

if TYPE_CHECKING:
    from typing import BinaryIO

LENGTH_BYTES = 8
NAME_LIMIT_BYTES = 65_535
"""The longest key by the specification; names of tensors are far shorter."""

TEXT_LIMIT_BYTES = 2**31
"""The longest text that is believed: a whole `tokenizer.json` may stand in one."""

_CUT = "the write was cut short, or is still going on"


class GgufCursor:
    """A place in a header; whatever is read must lie inside the file."""

    def __init__(self, file: BinaryIO, size_bytes: int, subject: str) -> None:
        self._file = file
        self._size_bytes = size_bytes
        self._subject = subject
        self._order = "<"
        self.at = 0

    @property
    def left_bytes(self) -> int:
        """Return how many bytes of the file lie behind this place."""
        return self._size_bytes - self.at

    @property
    def is_big_endian(self) -> bool:
        """Tell whether numbers are read with their highest byte first."""
        return self._order == ">"

    def turn(self) -> None:
        """Read numbers the other way round from here on."""
        self._order = "<" if self.is_big_endian else ">"

    def take(self, size_bytes: int, what: str) -> bytes:
        """Return the next bytes, those of ``what``."""
        self.need(size_bytes, what)
        raw = self._file.read(size_bytes)
        if len(raw) != size_bytes:
            self._cut(what)
        self.at += size_bytes
        return raw

    def skip(self, size_bytes: int, what: str) -> None:
        """Go on without reading."""
        self.need(size_bytes, what)
        self._file.seek(size_bytes, 1)
        self.at += size_bytes

    def need(self, size_bytes: int, what: str) -> None:
        """Raise TruncatedError when the file does not go on for so many bytes."""
        if size_bytes > self.left_bytes:
            self._cut(what)

    def number(self, code: str, what: str) -> int | float:
        """Return the next number, ``code`` as `struct` names it."""
        raw = self.take(struct.calcsize(f"{self._order}{code}"), what)
        value: int | float = struct.unpack(f"{self._order}{code}", raw)[0]
        return value

    def count(self, code: str, what: str, *, limit: int) -> int:
        """Return the next number, refused above a limit."""
        found = int(self.number(code, what))
        if found > limit:
            raise self.refused(f"{what} is {found}, the limit is {limit}")
        return found

    def name(self, what: str) -> str:
        """Return a short text, refused when it is no UTF-8."""
        length = self.count("Q", f"the length of {what}", limit=NAME_LIMIT_BYTES)
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError:
            raise self.refused(f"{what} is no UTF-8") from None

    def text(self, what: str, *, kept_bytes: int) -> str:
        """Return a text, of a long one the beginning; what is no UTF-8 is replaced."""
        length = self.count("Q", f"the length of {what}", limit=TEXT_LIMIT_BYTES)
        self.need(length, what)
        kept = min(length, kept_bytes)
        raw = self.take(kept, what)
        self.skip(length - kept, what)
        return raw.decode("utf-8", "replace")

    def skip_texts(self, count: int, what: str) -> None:
        """Go past texts without keeping one."""
        # A tokenizer has a million of them, so that nothing here is called for each.
        file, order = self._file, "big" if self.is_big_endian else "little"
        for _ in range(count):
            raw = file.read(LENGTH_BYTES)
            length = int.from_bytes(raw, order)  # type: ignore[arg-type] # one of two literals
            self.at += LENGTH_BYTES + length
            if len(raw) != LENGTH_BYTES or self.at > self._size_bytes:
                self._cut(what)
            file.seek(length, 1)

    def refused(self, fact: str) -> InputError:
        """Return the error for what cannot be meant."""
        return InputError(self._subject, fact=fact, todo="it is damaged or no GGUF file")

    def _cut(self, what: str) -> NoReturn:
        raise TruncatedError(
            self._subject, fact=f"ends at byte {self._size_bytes} inside {what}", todo=_CUT
        )
