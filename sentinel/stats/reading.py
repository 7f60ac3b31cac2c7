"""Reading a tensor's bytes into a buffer of ours, never through a mapping.

A file truncated under a mapping raises SIGBUS, which Python cannot catch; a short read is an
ordinary error.
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from sentinel.checkpoint import Identity, path_text
from sentinel.dtypes import BLOCKS, COMPLEX, DTYPES, unit_bytes
from sentinel.errors import ChangedWhileReadError, InputError, UnreadableError
from sentinel.regular import open_any
from sentinel.remote.errors import RemoteChangedError, RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from sentinel.checkpoint import Checkpoint, Tensor
    from sentinel.remote.ranges import RangeFile


class MemberFile:
    """One file of a checkpoint, open for reading at any offset.

    Raises ChangedWhileReadError when the file is gone or shorter than its header said, and
    UnreadableError when the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        try:
            self._file: FileIO | RangeFile = open_any(path)
        except FileNotFoundError:
            raise self._changed("is gone") from None
        except InputError:
            raise self._changed("is no regular file any more") from None
        except OSError as error:
            raise self._unreadable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def read_into(self, offset: int, target: NDArray[np.uint8]) -> None:
        """Fill ``target`` with the bytes that begin at ``offset``."""
        view = target.data
        done = 0
        try:
            while done < len(view):
                count = self._read_at(offset + done, view[done:])
                if not count:
                    raise self._changed(f"ends at {offset + done} inside a tensor")
                done += count
        except RemoteChangedError as error:
            raise self._changed(str(error.strerror)) from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _read_at(self, offset: int, view: memoryview) -> int | None:
        """Read some bytes; several threads may do so at once."""
        if not isinstance(self._file, FileIO):
            return self._file.read_at(offset, view)
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [view], offset)
        with self._turn:
            self._file.seek(offset)
            return self._file.readinto(view)

    def read(self, offset: int, size_bytes: int) -> NDArray[np.uint8]:
        """Return ``size_bytes`` bytes in an array of their own."""
        target = np.empty(size_bytes, np.uint8)
        self.read_into(offset, target)
        return target

    def blocks(
        self, offset: int, size_bytes: int, buffer: NDArray[np.uint8]
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the bytes in pieces of the buffer's size, each in the same buffer."""
        for start in range(0, size_bytes, buffer.size):
            piece = buffer[: min(buffer.size, size_bytes - start)]
            self.read_into(offset + start, piece)
            yield piece

    def _changed(self, fact: str) -> ChangedWhileReadError:
        return ChangedWhileReadError(
            f"file '{path_text(self._path)}'",
            fact=f"{fact}, so it changed after its header was read",
            todo="scan it again when its writer is done",
        )

    def _unreadable(self, error: OSError) -> UnreadableError:
        return UnreadableError(
            f"file '{path_text(self._path)}'",
            fact=f"cannot be read ({error.strerror})",
            todo="check the credentials in the environment and the network"
            if isinstance(error, RemoteError)
            else "check its permissions and the disk",
        )


class MemberFiles:
    """The members of a checkpoint, each opened when first asked for, closed together."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._root = checkpoint.root
        self._open: dict[str, MemberFile] = {}
        self._turn = threading.Lock()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self._stack.close()

    def open(self, member: str) -> MemberFile:
        """Return the open file of a member; raises as `MemberFile` does."""
        with self._turn:
            if member not in self._open:
                self._open[member] = self._stack.enter_context(MemberFile(self._root / member))
            return self._open[member]

    def blocks(self, tensor: Tensor, buffer: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Yield a dense tensor's bytes, little-endian, in blocks of whole values.

        They are as long as the buffer has room for, come in the order in which they lie, and none
        reaches over two pieces of shards.
        """
        if not tensor.size_bytes:
            return
        whole = buffer[: buffer.size - buffer.size % unit_bytes(tensor.dtype)]
        for box in tensor.boxes:
            for block in self.open(box.member).blocks(box.offset, box.size_bytes, whole):
                if tensor.big_endian:
                    _turn(tensor.dtype, block)
                yield block


def _turn(dtype: str, piece: NDArray[np.uint8]) -> None:
    """Turn the bytes of each number round, of blocks those of the scales."""
    if dtype not in BLOCKS:
        part = DTYPES[COMPLEX.get(dtype, dtype)]
        piece.view(f"u{part.bits // 8}").byteswap(inplace=True)
        return
    blocks = piece.reshape(-1, BLOCKS[dtype].size_bytes)
    for scale in BLOCKS[dtype].scales:
        words = blocks[:, scale.offset : scale.offset + scale.size_bytes]
        turned = words.reshape(len(blocks), -1, scale.word_bytes)[:, :, ::-1]
        words[:] = turned.reshape(words.shape)


def current_identity(checkpoint: Checkpoint) -> Identity:
    """Return the identity of the checkpoint's members as they lie on the disk now.

    Members that are gone are left out, which makes the identity another one.
    """
    found = []
    for member in checkpoint.members:
        try:
            status = (checkpoint.root / member.path).stat()
        except OSError:
            continue
        found.append(
            (member.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        )
    return tuple(sorted(found))
