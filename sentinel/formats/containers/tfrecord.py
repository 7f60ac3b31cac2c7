"""The records of a TFRecord file, or of its end: length, checksum, data, checksum.

The form is described at https://www.tensorflow.org/tutorials/load_data/tfrecord. A file that is
still being written ends in the middle of a record; what was whole before it counts.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sentinel.formats.containers.crc32c import masked_crc32c, masked_crc32c_of, masked_crc32cs
from sentinel.formats.files import open_regular

RECORD_LIMIT_BYTES = 16 * 1024
"""A larger record is passed over: it holds an image or a text, not a number."""

KEPT_LIMIT = 50_000
KEPT_LIMIT_BYTES = 8 * 1024 * 1024
TAILS_BYTES = (8 << 20, 64 << 20, 512 << 20)
"""How much of a larger file's end is looked through: the next when the last had few records."""

_FEW_RECORDS = 1000
_WALK_LIMIT = 2_000_000
_HEADER = struct.Struct("<QI")
_CHECKSUM_BYTES = 4
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Records:
    """The data of the last small records in the file's order; ``is_all``: none came before."""

    data: tuple[bytes, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class _Record:
    """A record whose checksums were not looked at yet; ``data`` is None for a large one."""

    header: bytes
    data: bytes | None
    checksum: int


def read_records(path: Path) -> Records:
    """Return the last records of a file, at most 50,000 with 8 MiB of data.

    They end before the first one that is torn or has a wrong checksum. Raises as `open_regular`.
    """
    with open_regular(path) as (file, size_bytes):
        for tail_bytes in TAILS_BYTES:
            start = _first_record(file, size_bytes, max(0, size_bytes - tail_bytes))
            kept, count = _walk(file, size_bytes, start)
            if start == 0 or count >= _FEW_RECORDS:
                break
    whole = _whole(kept)
    data = tuple(record.data for record in whole if record.data is not None)
    return Records(data, is_all=start == 0 and len(kept) == count)


def _walk(file: BinaryIO, size_bytes: int, start: int) -> tuple[list[_Record], int]:
    """Return the last records from a place on, and how many there are in all."""
    kept: deque[_Record] = deque()
    kept_bytes = count = 0
    at = start
    file.seek(start)
    while count < _WALK_LIMIT:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            break
        length = _HEADER.unpack(header)[0]
        after = at + _HEADER.size + length + _CHECKSUM_BYTES
        if after > size_bytes:
            break
        data = None
        if length > RECORD_LIMIT_BYTES:
            # Nothing guards a length here but its checksum: it is looked at before it leads on.
            if not _is_header(header):
                break
            file.seek(after)
            checksum = 0
        else:
            body = file.read(length + _CHECKSUM_BYTES)
            if len(body) < length + _CHECKSUM_BYTES:
                break
            data, checksum = body[:length], int.from_bytes(body[length:], "little")
        kept.append(_Record(header, data, checksum))
        kept_bytes += len(data or b"")
        while len(kept) > KEPT_LIMIT or kept_bytes > KEPT_LIMIT_BYTES:
            kept_bytes -= len(kept.popleft().data or b"")
        at, count = after, count + 1
    return list(kept), count


def _whole(records: list[_Record]) -> list[_Record]:
    """Return the records before the first with a wrong checksum."""
    if not records:
        return []
    lengths = masked_crc32cs([record.header[:8] for record in records])
    told = np.array([_HEADER.unpack(record.header)[1] for record in records], np.uint32)
    good = lengths == told
    small = [number for number, record in enumerate(records) if record.data is not None]
    sums = masked_crc32cs([records[number].data or b"" for number in small])
    good[small] &= sums == np.array([records[number].checksum for number in small], np.uint32)
    wrong = np.flatnonzero(~good)
    return records[: int(wrong[0])] if len(wrong) else records


def _first_record(file: BinaryIO, size_bytes: int, start: int) -> int:
    """Return where the first record at or after a place begins, the file's end if none does.

    A length is known by its own checksum, and by that of the length after it.
    """
    if start == 0:
        return 0
    at = start
    while at + _HEADER.size <= size_bytes:
        file.seek(at)
        chunk = np.frombuffer(file.read(_CHUNK_BYTES + _HEADER.size - 1), np.uint8)
        count = len(chunk) - _HEADER.size + 1
        if count <= 0:
            break
        columns = [chunk[number : number + count] for number in range(_HEADER.size)]
        told = sum(columns[8 + n].astype(np.uint32) << np.uint32(8 * n) for n in range(4))
        for found in np.flatnonzero(masked_crc32c_of(columns[:8]) == told):
            if _leads_on(file, size_bytes, at + int(found)):
                return at + int(found)
        at += count
    return size_bytes


def _leads_on(file: BinaryIO, size_bytes: int, at: int) -> bool:
    file.seek(at)
    length = _HEADER.unpack(file.read(_HEADER.size))[0]
    after = at + _HEADER.size + length + _CHECKSUM_BYTES
    if after + _HEADER.size > size_bytes:
        return bool(after <= size_bytes)
    file.seek(after)
    return _is_header(file.read(_HEADER.size))


def _is_header(header: bytes) -> bool:
    return bool(masked_crc32c(header[:8]) == _HEADER.unpack(header)[1])
