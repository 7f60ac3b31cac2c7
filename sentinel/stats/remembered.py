"""Numbers of tensors whose bytes were read before: several checkpoints may hold one file.

A trainer's copy of its best checkpoint is often a hard link, and a run's unchanged parts are
linked from save to save. The same file is one device and inode, of the same length, not written
since; one written a moment ago may be written again without its time telling so, and is not
remembered. Nor is what was not met for long, so that a scan of many holds no more than of a few.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sentinel.stats.moments import Moments

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint, Tensor

Numbers: TypeAlias = tuple[Moments, str | None, bytes | None]
"""The moments of a tensor, its digest where asked for, and its sample."""


class Remembering(Protocol):
    """Who may know a tensor's numbers before it is read."""

    def of(
        self, checkpoint: Checkpoint, read: Callable[[Tensor], Numbers], /
    ) -> Callable[[Tensor], Numbers]:
        """Return a reading that asks for each tensor whether it is known."""


_FileKey: TypeAlias = tuple[int, int, int, int]
_Key: TypeAlias = tuple[object, ...]

_SETTLED_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT's) ticks every two seconds."""

MOST = 16_384
"""Tensors whose numbers are kept: some 50 MB, those of 32 LoRAs of 512 tensors."""


@dataclass(slots=True)
class Remembered:
    """What was read last, by where it lies; for readings that want the same things."""

    most: int = MOST
    _known: OrderedDict[_Key, Numbers] = field(default_factory=OrderedDict)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def of(
        self, checkpoint: Checkpoint, read: Callable[[Tensor], Numbers]
    ) -> Callable[[Tensor], Numbers]:
        """Return a reading of a checkpoint's tensors that reads none a second time."""
        files = _files(checkpoint)

        def read_once(tensor: Tensor) -> Numbers:
            key = _key(tensor, files)
            if key is None:
                return read(tensor)
            numbers = self._known.get(key)
            if numbers is None:
                numbers = read(tensor)
            self._keep(key, numbers)
            return numbers

        return read_once

    def _keep(self, key: _Key, numbers: Numbers) -> None:
        """Keep what was met just now longest."""
        with self._changing:
            self._known[key] = numbers
            self._known.move_to_end(key)
            if len(self._known) > self.most:
                self._known.popitem(last=False)


def _files(checkpoint: Checkpoint) -> Mapping[str, _FileKey]:
    newest_ns = time.time_ns() - _SETTLED_NS
    return {
        member.path: (member.device, member.inode, member.size_bytes, member.mtime_ns)
        for member in checkpoint.members
        if member.mtime_ns < newest_ns
    }


def _key(tensor: Tensor, files: Mapping[str, _FileKey]) -> _Key | None:
    """Return where a tensor's bytes lie, None where that may not be what was read before."""
    if not tensor.is_dense:
        return None
    boxes = tuple((files.get(box.member), box.offset, box.size_bytes) for box in tensor.boxes)
    if any(file is None for file, _, _ in boxes):
        return None
    return (tensor.dtype, tensor.shape, tensor.big_endian, boxes)
