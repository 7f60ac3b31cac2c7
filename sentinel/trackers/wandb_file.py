"""The project and group of a W&B run, from its transaction log; needs ``wandb`` for its messages.

The file is LevelDB's log of protobuf records behind a header of seven bytes
(https://github.com/google/leveldb/blob/main/doc/log_format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20
"""The record of the run stands at the beginning."""

_HEADER = b":W&B"
_HEADER_BYTES = 7
_BLOCK = 32_768
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def project_and_group(run: Path) -> tuple[str | None, str | None]:
    """Return what the run in a directory belongs to; None for what is not told or readable."""
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - comes with wandb

    messages: Any = import_module("wandb.proto.wandb_internal_pb2")  # an extra

    with suppress(OSError, DecodeError):
        for path in sorted(run.glob("*.wandb"))[:1]:
            with path.open("rb") as file:
                data = file.read(READ_BYTES)
            for payload in records(data):
                record = messages.Record.FromString(payload)
                if record.WhichOneof("record_type") == "run":
                    return record.run.project or None, record.run.run_group or None
    return None, None


def records(data: bytes) -> Iterator[bytes]:
    """Yield the whole records of a log's beginning; one that is cut off or torn ends it."""
    if not data.startswith(_HEADER):
        return
    at = _HEADER_BYTES
    parts: list[bytes] = []
    while at + _CHUNK.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _CHUNK.size:
            at += left
            continue
        _, length, kind = _CHUNK.unpack_from(data, at)
        begin, end = at + _CHUNK.size, at + _CHUNK.size + length
        if kind not in {_FULL, _FIRST, _MIDDLE, _LAST} or end > min(len(data), at + left):
            return
        parts = [data[begin:end]] if kind in {_FULL, _FIRST} else [*parts, data[begin:end]]
        if kind in {_FULL, _LAST}:
            yield b"".join(parts)
        at = end
