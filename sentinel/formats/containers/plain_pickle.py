"""Files that hold one pickle and nothing else: trainers keep random states and counters in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.containers.pickle_source import PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle
from sentinel.formats.containers.torch_file import read_torch_file
from sentinel.formats.containers.torch_legacy import MAGIC
from sentinel.formats.containers.torch_objects import Origin, StorageKey, TorchFile, torch_tree
from sentinel.formats.containers.zip_directory import LOCAL_MAGIC
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path


def read_pickle_file(path: Path, *, member: str | None = None) -> TorchFile:
    """Read a file called a pickle: one by `torch.save`, as most are, or a plain one.

    Nothing in it is run. A plain one has no tensors. Raises as `read_torch_file` does.
    """
    subject = f"file '{path_text(path)}'"
    name = path.name if member is None else member
    with open_regular(path) as (file, size_bytes):
        head = file.read(len(LOCAL_MAGIC))
        file.seek(0)
        value: object = MAGIC
        left = 0
        if head.strip(b"\0") and not head.startswith(LOCAL_MAGIC):
            value = read_pickle(PickleSource(file, size_bytes, subject))
            left = size_bytes - file.tell()
    if value == MAGIC:
        return read_torch_file(path, member=name)
    if left:
        raise InputError(
            subject,
            fact=f"has {left} bytes after the end of its pickle",
            todo="it is damaged or no checkpoint",
        )

    def find(_key: StorageKey) -> NoReturn:
        raise InputError(
            subject,
            fact="needs a tensor's storage, which a plain pickle has not",
            todo="it is damaged or no checkpoint",
        )

    origin = Origin(name, subject, file_bytes=size_bytes, pickle_bytes=size_bytes)
    return torch_tree(value, origin, find)
