"""The directory of a zip archive, with every entry held against its own local header.

Readers of zip files disagree about archives that contradict themselves, and that is where
something can be hidden; so one that does is refused. Format: sections 4.3 and 4.4 of
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from sentinel.errors import InputError, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

STORED = 0
DEFLATED = 8

LOCAL_MAGIC = b"PK\x03\x04"
_END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_MAGIC = b"PK\x06\x06"
_LOCATOR = struct.Struct("<4sIQI")
_LOCATOR_MAGIC = b"PK\x06\x07"
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_CENTRAL_MAGIC = b"PK\x01\x02"
_LOCAL = struct.Struct("<4s5H3I2H")

_COMMENT_LIMIT = 0xFFFF
_WIDE16 = 0xFFFF
_WIDE32 = 0xFFFFFFFF
_ENCRYPTED = 0x0041
_SIZES_FOLLOW = 0x0008
_ZIP64_EXTRA = 1
_EXTRA_HEAD = struct.Struct("<2H")
DIRECTORY_LIMIT_BYTES = 32 * 1024 * 1024
"""Some 300,000 files, each of which takes half a kilobyte of memory."""


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One file of an archive; ``offset`` is where its (perhaps compressed) bytes begin."""

    name: str
    method: int
    offset: int
    stored_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Central:
    name: bytes
    flags: int
    method: int
    stored_bytes: int
    size_bytes: int
    header_at: int


class _Window:
    """A part of a file that is an archive of its own, with offsets counted from its start."""

    def __init__(self, file: BinaryIO, start: int, size_bytes: int, subject: str) -> None:
        self._file = file
        self._start = start
        self.size_bytes = size_bytes
        self._subject = subject

    def read(self, at: int, count: int) -> bytes:
        if at < 0 or at + count > self.size_bytes:
            self.refuse(f"points to byte {at + count}, the archive ends at {self.size_bytes}")
        self._file.seek(self._start + at)
        found = self._file.read(count)
        if len(found) != count:
            self.refuse_truncated()
        return found

    def absolute(self, at: int) -> int:
        return self._start + at

    def refuse(self, fact: str) -> NoReturn:
        raise InputError(
            self._subject, where="as a zip archive", fact=fact, todo="it is damaged, or a trap"
        )

    def refuse_truncated(self) -> NoReturn:
        raise TruncatedError(
            self._subject,
            fact="begins as a zip archive and does not end as one",
            todo="the write was cut short, or is still going on",
        )


def read_zip_directory(
    file: BinaryIO, size_bytes: int, subject: str, *, start: int = 0
) -> Mapping[str, ZipEntry]:
    """Return the files of the archive that lies in ``size_bytes`` bytes from ``start`` on.

    ``subject`` names the file in messages. Raises TruncatedError when the end record is not
    there, another InputError for entries that overlap, are encrypted, occur twice, leave the
    archive, or say other things in their local header than in the directory.
    """
    window = _Window(file, start, size_bytes, subject)
    count, length, begins_at = _end_record(window)
    if length > DIRECTORY_LIMIT_BYTES:
        window.refuse(f"its directory takes {length} bytes, the limit is {DIRECTORY_LIMIT_BYTES}")
    central = _central_entries(window, window.read(begins_at, length), count)
    entries = [_checked(window, one) for one in central]
    _check_places(window, central, entries, begins_at)
    by_name = {entry.name: entry for entry in entries}
    if len(by_name) != len(entries):
        window.refuse("a file occurs twice in it")
    return by_name


def _end_record(window: _Window) -> tuple[int, int, int]:
    """Return how many entries there are, how long the directory is, and where it begins."""
    tail, tail_at = _tail(window)
    found = tail.rfind(_END_MAGIC)
    if found < 0 or len(tail) - found < _END.size:
        window.refuse_truncated()
    _, disk, first_disk, here, count, length, begins_at, comment = _END.unpack_from(tail, found)
    if found + _END.size + comment != len(tail):
        window.refuse("something follows its end record")
    if _WIDE16 in {here, count} or _WIDE32 in {length, begins_at}:
        return _end_record64(window, tail_at + found)
    # torch writes the 64-bit records in any case, and leaves them out of the plain one.
    gap = tail_at + found - (begins_at + length)
    if disk or first_disk or here != count or gap not in {0, _END64.size + _LOCATOR.size}:
        window.refuse("its end record contradicts itself")
    if gap and _end_record64(window, tail_at + found) != (count, length, begins_at):
        window.refuse("its two end records contradict each other")
    return count, length, begins_at


def _tail(window: _Window) -> tuple[bytes, int]:
    """Return the last bytes, with the end record among them, and where they begin."""
    at = max(0, window.size_bytes - _END.size)
    tail = window.read(at, window.size_bytes - at)
    if tail.startswith(_END_MAGIC):
        # Without a comment, as torch writes it: of many archives in one file little is read.
        return tail, at
    at = max(0, at - _COMMENT_LIMIT)
    return window.read(at, window.size_bytes - at), at


def _end_record64(window: _Window, end_at: int) -> tuple[int, int, int]:
    locator = _LOCATOR.unpack(window.read(end_at - _LOCATOR.size, _LOCATOR.size))
    magic, disk, record_at, disks = locator
    if magic != _LOCATOR_MAGIC or disk or disks > 1:
        window.refuse("its 64-bit end record is not where it should be")
    record = _END64.unpack(window.read(record_at, _END64.size))
    magic, _, _, _, disk, first_disk, here, count, length, begins_at = record
    is_odd = magic != _END64_MAGIC or disk or first_disk or here != count
    if (
        is_odd
        or begins_at + length != record_at
        or record_at + _END64.size > end_at - _LOCATOR.size
    ):
        window.refuse("its 64-bit end record contradicts itself")
    return count, length, begins_at


def _central_entries(window: _Window, raw: bytes, count: int) -> list[_Central]:
    found: list[_Central] = []
    at = 0
    while at < len(raw):
        if at + _CENTRAL.size > len(raw):
            window.refuse("its directory ends inside an entry")
        fields = _CENTRAL.unpack_from(raw, at)
        magic, flags, method, stored, size = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_length, extra_length, comment_length, header_at = *fields[10:13], fields[16]
        name_at = at + _CENTRAL.size
        extra_at = name_at + name_length
        at = extra_at + extra_length + comment_length
        if magic != _CENTRAL_MAGIC or at > len(raw):
            window.refuse("its directory is damaged")
        extra = raw[extra_at : extra_at + extra_length]
        size, stored, header_at = _widened(window, extra, (size, stored, header_at))
        name = raw[name_at:extra_at]
        found.append(_Central(name, flags, method, stored, size, header_at))
    if len(found) != count:
        window.refuse(f"its directory has {len(found)} entries, its end record says {count}")
    return found


def _widened(window: _Window, extra: bytes, values: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the sizes and the offset, those that did not fit 32 bits from the extra field."""
    if _WIDE32 not in values:
        return values
    wide = list(_zip64(extra))
    needed = values.count(_WIDE32)
    if len(wide) < needed:
        window.refuse("an entry of its directory lacks its 64-bit sizes")
    following = iter(wide)
    return tuple(next(following) if value == _WIDE32 else value for value in values)


def _zip64(extra: bytes) -> tuple[int, ...]:
    at = 0
    while at + _EXTRA_HEAD.size <= len(extra):
        kind, length = _EXTRA_HEAD.unpack_from(extra, at)
        body = extra[at + _EXTRA_HEAD.size : at + _EXTRA_HEAD.size + length]
        if kind == _ZIP64_EXTRA:
            return struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8])
        at += _EXTRA_HEAD.size + length
    return ()


def _checked(window: _Window, entry: _Central) -> ZipEntry:
    """Hold an entry against its local header and return where its bytes lie."""
    shown = entry.name.decode("utf-8", "backslashreplace")
    local = _LOCAL.unpack(window.read(entry.header_at, _LOCAL.size))
    magic, flags, method, stored, size = local[0], local[2], local[3], local[7], local[8]
    name_length, extra_length = local[9:11]
    name = window.read(entry.header_at + _LOCAL.size, name_length)
    data_at = entry.header_at + _LOCAL.size + name_length + extra_length
    if entry.flags & _ENCRYPTED or flags & _ENCRYPTED:
        window.refuse(f"'{shown:.200}' in it is encrypted")
    same = magic == LOCAL_MAGIC and name == entry.name and method == entry.method
    if not flags & _SIZES_FOLLOW and _WIDE32 not in {stored, size}:
        same = same and (stored, size) == (entry.stored_bytes, entry.size_bytes)
    if not same or (method == STORED and entry.stored_bytes != entry.size_bytes):
        window.refuse(f"'{shown:.200}' in it is described in two ways")
    if data_at + entry.stored_bytes > window.size_bytes:
        window.refuse(f"'{shown:.200}' in it ends outside of it")
    return ZipEntry(shown, method, window.absolute(data_at), entry.stored_bytes, entry.size_bytes)


def _check_places(
    window: _Window, central: list[_Central], entries: list[ZipEntry], directory_at: int
) -> None:
    """Refuse archives whose files overlap, or that do not begin with their first file."""
    places = sorted(
        (window.absolute(one.header_at), entry.offset + entry.stored_bytes)
        for one, entry in zip(central, entries, strict=True)
    )
    if places and places[0][0] != window.absolute(0):
        window.refuse("something lies before its first file")
    ends = [end for _, end in places]
    begins = [*(begin for begin, _ in places[1:]), window.absolute(directory_at)]
    if any(end > begin for end, begin in zip(ends, begins, strict=bool(places))):
        window.refuse("files in it overlap")
