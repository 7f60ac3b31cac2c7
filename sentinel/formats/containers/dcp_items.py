"""One `.distcp` file of a distributed checkpoint: archives of `torch.save`, end to end.

Each holds one chunk of a tensor or one other value; `.metadata` tells where each begins.
Source: `_write_item` in torch/distributed/checkpoint/filesystem.py of
https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sentinel.checkpoint import Tensor, path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.torch_zip import read_torch_zip
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from sentinel.formats.containers.dcp_metadata import StoredItem


class ItemFile:
    """One open `.distcp`; ``member`` is its name inside the checkpoint."""

    def __init__(self, file: BinaryIO, path: Path, size_bytes: int, member: str) -> None:
        self._file = file
        self._path = path
        self._size_bytes = size_bytes
        self.member = member

    def check_length(self, item: StoredItem) -> None:
        """Raise TruncatedError when the file ends before an item does."""
        end = item.offset + item.size_bytes
        if end > self._size_bytes:
            raise TruncatedError(
                f"file '{path_text(self._path)}'",
                fact=f"a chunk in it ends at byte {end}, the file at {self._size_bytes}",
                todo="the write was cut short, or is still going on",
            )

    def value(self, item: StoredItem, name: str) -> object:
        """Return what an item holds, its tensors as `Tensor`; raises as `read_torch_zip`."""
        self.check_length(item)
        if item.transforms:
            raise self._refused(name, f"is packed ('{item.transforms[0]}')", "save it unpacked")
        return read_torch_zip(
            self._file,
            self._path,
            item.size_bytes,
            member=self.member,
            start=item.offset,
            subject=self._subject(name),
        ).tree

    def chunk(self, item: StoredItem, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor an item holds; raises InputError when it is not the described one."""
        found = self.value(item, name)
        if not isinstance(found, Tensor):
            raise self._refused(name, "holds no plain tensor", "check what wrote it")
        if (found.dtype, found.shape) != (dtype, shape):
            fact = (
                f"holds {found.dtype} {list(found.shape)}, its description says"
                f" {dtype} {list(shape)}"
            )
            raise self._refused(name, fact, "the files do not belong together")
        return found

    def _refused(self, name: str, fact: str, todo: str) -> InputError:
        return InputError(self._subject(name), fact=fact, todo=todo)

    def _subject(self, name: str) -> str:
        return f"chunk of '{name:.200}' in '{path_text(self._path)}'"


@contextmanager
def open_items(path: Path, member: str) -> Iterator[ItemFile]:
    """Open a `.distcp`; raises as `open_regular` does."""
    with open_regular(path) as (file, size_bytes):
        yield ItemFile(file, path, size_bytes, member)
