"""Files of `torch.save` before version 1.6: pickles and raw storages, one after another.

A magic number, a protocol number, facts about the machine, the object, the storages' keys, and
then each storage as an 8-byte count of elements and its values, always little-endian.
Source: `_legacy_save` in torch/serialization.py, torch/csrc/serialization.cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.pickle_nodes import Call, Persistent
from sentinel.formats.containers.pickle_source import PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle
from sentinel.formats.containers.torch_dtypes import bits_of
from sentinel.formats.containers.torch_objects import (
    NODE_LIMIT,
    Origin,
    Storage,
    StorageKey,
    TorchFile,
    storage_key,
    torch_tree,
)

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_COUNT_BYTES = 8


def read_torch_legacy(file: BinaryIO, path: Path, size_bytes: int, *, member: str) -> TorchFile:
    """Read the description of a stream in ``file``; no tensor's value is read.

    Raises TruncatedError when the last storage is not whole, and as `read_pickle` does.
    """
    subject = f"file '{path_text(path)}'"
    source = PickleSource(file, size_bytes, subject)
    if read_pickle(source) != MAGIC:
        raise _refused(subject, "is a pickle, but not one of torch")
    if read_pickle(source) != _PROTOCOL:
        raise _refused(subject, f"is of another version than {_PROTOCOL}")
    read_pickle(source)
    value = read_pickle(source)
    keys = read_pickle(source)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise _refused(subject, "its storages have no keys")
    storages = _storages(file, subject, size_bytes, keys, _widths(value, subject))

    def find(key: StorageKey) -> Storage:
        if key.key not in storages:
            raise _refused(subject, f"its pickle needs the storage '{key.key:.100}', it has none")
        return storages[key.key]

    return torch_tree(value, Origin(member, subject, size_bytes, source.at), find)


def _widths(value: object, subject: str) -> dict[str, int]:
    """Return the bytes of an element by storage key: only the pickle's own mentions tell them."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    left = [value]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        if isinstance(one, Persistent):
            key = storage_key(one)
            width = bits_of(key.dtype or "U8") // 8 if key else 1
            if key and found.setdefault(key.key, width) != width:
                raise _refused(subject, f"its storage '{key.key:.100}' has two dtypes")
        inner = _inside(one)
        if inner:
            seen.add(id(one))
            left.extend(inner)
        if len(left) > NODE_LIMIT:
            raise _refused(subject, f"unfolds to more than {NODE_LIMIT} values")
    return found


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    return [*value.arguments, value.state] if isinstance(value, Call) else []


def _storages(
    file: BinaryIO, subject: str, size_bytes: int, keys: list[str], widths: dict[str, int]
) -> dict[str, Storage]:
    found: dict[str, Storage] = {}
    at = file.tell()
    for key in keys:
        if at + _COUNT_BYTES > size_bytes:
            raise _truncated(subject, at + _COUNT_BYTES, size_bytes)
        if key not in widths or key in found:
            raise _refused(subject, f"its storage '{key:.100}' belongs to no tensor")
        file.seek(at)
        numel = int.from_bytes(file.read(_COUNT_BYTES), "little", signed=True)
        if numel < 0:
            raise _refused(subject, f"its storage '{key:.100}' has {numel} elements")
        at += _COUNT_BYTES
        found[key] = Storage(at, numel * widths[key])
        at += numel * widths[key]
        if at > size_bytes:
            raise _truncated(subject, at, size_bytes)
    if at != size_bytes:
        raise _refused(subject, f"its storages end at byte {at}, the file at {size_bytes}")
    return found


def _refused(subject: str, fact: str) -> InputError:
    return InputError(subject, fact=fact, todo="check what wrote it")


def _truncated(subject: str, needed: int, size_bytes: int) -> TruncatedError:
    return TruncatedError(
        subject,
        fact=f"its storages go on to byte {needed}, the file ends at {size_bytes}",
        todo="the write was cut short, or is still going on",
    )
