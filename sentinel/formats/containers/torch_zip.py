"""Files of `torch.save` since version 1.6: a zip archive of a pickle and raw storages.

Every storage is a file `<archive>/data/<key>` of its own, stored without compression, so that
its values are read in place. Format: caffe2/serialize/inline_container.h and
torch/serialization.py of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.containers.pickle_source import PICKLE_LIMIT_BYTES, PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle
from sentinel.formats.containers.torch_objects import (
    Origin,
    Storage,
    StorageKey,
    TorchFile,
    torch_tree,
)
from sentinel.formats.containers.zip_directory import STORED, ZipEntry, read_zip_directory

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_PICKLE = "/data.pkl"
_ORDERS = {b"little": False, b"big": True}
_LONGEST_ORDER = 16


def read_torch_zip(
    file: BinaryIO,
    path: Path,
    size_bytes: int,
    *,
    member: str,
    start: int = 0,
    subject: str | None = None,
) -> TorchFile:
    """Read the description of an archive in ``file``; no tensor's value is read.

    ``member`` is the file's name inside its checkpoint, ``start`` where the archive begins,
    ``subject`` what messages call it. Raises as `read_zip_directory` and `read_pickle` do.
    """
    subject = subject or f"file '{path_text(path)}'"
    entries = read_zip_directory(file, size_bytes, subject, start=start)
    root = _root(entries, subject)
    if f"{root}/constants.pkl" in entries:
        raise _refused(subject, "is a compiled TorchScript program, no checkpoint")
    pickled = _bytes(file, entries[root + _PICKLE], subject)
    value = read_pickle(PickleSource(BytesIO(pickled), len(pickled), subject))
    order = entries.get(f"{root}/byteorder")

    def find(key: StorageKey) -> Storage:
        entry = entries.get(f"{root}/data/{key.key}")
        if entry is None:
            raise _refused(subject, f"its pickle needs the storage '{key.key:.100}', it has none")
        return Storage(entry.offset, entry.size_bytes)

    turned = order is not None and _is_big_endian(file, order, subject)
    return torch_tree(value, Origin(member, subject, size_bytes, len(pickled), turned), find)


def pickle_in_zip(file: BinaryIO, path: Path, size_bytes: int) -> bytes:
    """Return the bytes of an archive's pickle; raises as `read_torch_zip` does."""
    subject = f"file '{path_text(path)}'"
    entries = read_zip_directory(file, size_bytes, subject)
    return _bytes(file, entries[_root(entries, subject) + _PICKLE], subject)


def _root(entries: Mapping[str, ZipEntry], subject: str) -> str:
    """Return the one directory that everything in the archive lies in.

    torch looks names up without regard to case: of two that differ in nothing else it would read
    the one, and others the other.
    """
    if len({name.lower() for name in entries}) != len(entries):
        raise _refused(subject, "has two files in it whose names differ in upper and lower case")
    roots = [name.removesuffix(_PICKLE) for name in entries if name.endswith(_PICKLE)]
    if len(roots) != 1 or "/" in roots[0]:
        raise _refused(subject, "is a zip archive, but not one of torch")
    for entry in entries.values():
        if not entry.name.startswith(f"{roots[0]}/"):
            raise _refused(subject, f"'{entry.name:.200}' in it lies outside of '{roots[0]:.200}'")
        if entry.method != STORED:
            raise _refused(
                subject, f"'{entry.name:.200}' in it is compressed, which torch never does"
            )
    return roots[0]


def _bytes(file: BinaryIO, entry: ZipEntry, subject: str) -> bytes:
    if entry.size_bytes > PICKLE_LIMIT_BYTES:
        raise _refused(subject, f"its pickle is longer than {PICKLE_LIMIT_BYTES} bytes")
    file.seek(entry.offset)
    return file.read(entry.size_bytes)


def _is_big_endian(file: BinaryIO, entry: ZipEntry, subject: str) -> bool:
    file.seek(entry.offset)
    found = file.read(min(entry.size_bytes, _LONGEST_ORDER))
    if found not in _ORDERS:
        raise _refused(subject, "its byte order is neither little nor big")
    return _ORDERS[found]


def _refused(subject: str, fact: str) -> InputError:
    return InputError(subject, fact=fact, todo="check what wrote it")
