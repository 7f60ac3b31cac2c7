"""A file of `torch.save` written anew with other dtypes, without torch: its pickle, its storages.

The archive is written as torch writes it: not compressed, each storage at a multiple of 64 bytes
(caffe2/serialize/inline_container.cc of https://github.com/pytorch/pytorch). The record
`.data/serialization_id`, a digest of the original's content, is left out; torch asks for none.
"""

from __future__ import annotations

import struct
import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.checkpoint import Tensor, path_text
from sentinel.dtypes import DTYPES
from sentinel.errors import InputError, RepairError
from sentinel.formats.containers.torch_zip import pickle_in_zip
from sentinel.formats.containers.zip_directory import LOCAL_MAGIC, ZipEntry, read_zip_directory
from sentinel.formats.files import open_regular
from sentinel.receipt import Loss, NewFile
from sentinel.repairs.files.actions import BLOCK_BYTES
from sentinel.repairs.files.casting import cast, is_exact, lost
from sentinel.repairs.files.pickle_storages import retyped
from sentinel.repairs.files.tensors_file import named
from sentinel.stats.reading import MemberFile

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_PICKLE = "/data.pkl"
_DATA = "/data/"
_DIGEST = "/.data/serialization_id"
_ALIGNMENT = 64
_PADDING_KIND = 0x4246
"""The kind of extra field that torch pads with: "FB"."""

_LOCAL_HEADER_BYTES = 30
_ZIP64_EXTRA_BYTES = 20
_EXTRA_HEAD_BYTES = 4
_ZIP64_FROM = 1_900_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class NewStorage:
    """One storage that is cast: its key, where it lies, its dtype and that of the first tensor."""

    key: str
    offset: int
    size_bytes: int
    before: str
    after: str
    tensor: str

    @property
    def value_count(self) -> int:
        """Return how many values it holds."""
        return self.size_bytes * 8 // DTYPES[self.before].bits

    @property
    def new_bytes(self) -> int:
        """Return how long it will be."""
        return self.value_count * DTYPES[self.after].bits // 8


@dataclass(frozen=True, slots=True)
class TorchArchive:
    """A file of `torch.save` some of whose storages get another dtype."""

    file: NewFile
    storages: tuple[NewStorage, ...]

    def write(self, root: Path, out: BinaryIO, made: Mapping[str, int]) -> None:  # noqa: ARG002 - the protocol
        """Write the archive; raises RepairError when its pickle cannot be given other dtypes."""
        path = root / self.file.source
        changed = {storage.key: storage for storage in self.storages}
        with open_regular(path) as (file, size_bytes):
            entries = read_zip_directory(file, size_bytes, _subject(path))
            pickled = pickle_in_zip(file, path, size_bytes)
        dtypes = {key: storage.after for key, storage in changed.items()}
        pickled = retyped(pickled, dtypes, _subject(path))
        with MemberFile(path) as original, zipfile.ZipFile(out, "w") as archive:
            data = _data_directory(entries)
            for entry in sorted(entries.values(), key=lambda one: one.offset):
                if entry.name.endswith(_DIGEST):
                    continue
                key = entry.name.removeprefix(data)
                storage = changed.get(key) if key != entry.name else None
                if entry.name.endswith(_PICKLE):
                    _write(archive, entry.name, len(pickled), [pickled])
                else:
                    size = storage.new_bytes if storage else entry.size_bytes
                    _write(archive, entry.name, size, _blocks(original, entry, storage))


def storages_to_cast(
    path: Path, chosen: Iterable[Tensor], others: Iterable[Tensor], after: str
) -> tuple[NewStorage, ...]:
    """Return the storages under some tensors of a file, those already of the dtype left out.

    Raises RepairError when ``others`` lie in one of them too, when the file is of torch before
    1.6 or of a machine with the other byte order.
    """
    subject = _subject(path)
    with open_regular(path) as (file, size_bytes):
        is_archive = file.read(len(LOCAL_MAGIC)) == LOCAL_MAGIC
        if not is_archive:
            raise _refused(subject, "is of torch before version 1.6, which is not written any more")
        entries = read_zip_directory(file, size_bytes, subject)
    places = _Places(entries, subject)
    kept = {places.key(tensor) for tensor in others}
    found: dict[str, NewStorage] = {}
    for tensor in chosen:
        if tensor.dtype == after:
            kept.add(places.key(tensor))
            continue
        if tensor.big_endian:
            raise _refused(subject, "comes from a machine with the other byte order")
        entry = places.entry(tensor)
        key = places.key(tensor)
        new = NewStorage(key, entry.offset, entry.size_bytes, tensor.dtype, after, tensor.name)
        if found.setdefault(key, new).before != tensor.dtype:
            raise _refused(subject, f"has two dtypes in the storage of '{tensor.name:.200}'")
    both = kept & found.keys()
    if both:
        shared = found[min(both)].tensor
        raise _refused(subject, f"keeps '{shared:.200}' in the same bytes as a tensor that stays")
    return tuple(found.values())


def check_pickle(path: Path, storages: Iterable[NewStorage]) -> None:
    """Raise RepairError when the pickle of a file cannot give these storages other dtypes."""
    with open_regular(path) as (file, size_bytes):
        pickled = pickle_in_zip(file, path, size_bytes)
    retyped(pickled, {one.key: one.after for one in storages}, _subject(path))


def loss_of(path: Path, storages: Iterable[NewStorage]) -> Loss:
    """Return what the casts of a file's storages do not keep; reads the values once."""
    total = Loss()
    buffer = np.empty(BLOCK_BYTES, np.uint8)
    with MemberFile(path) as original:
        for one in storages:
            if is_exact(one.before, one.after):
                continue
            for block in original.blocks(one.offset, one.size_bytes, buffer):
                made = cast(block, one.before, one.after)
                total += named(lost(block, made, one.before, one.after), one.tensor)
    return total


def size_after(size_bytes: int, storages: Iterable[NewStorage]) -> int:
    """Return about how large a file of some size will be."""
    return size_bytes + sum(one.new_bytes - one.size_bytes for one in storages)


class _Places:
    """Which storage of an archive lies where."""

    def __init__(self, entries: Mapping[str, ZipEntry], subject: str) -> None:
        self._data = _data_directory(entries)
        data = [entry for entry in entries.values() if entry.name.startswith(self._data)]
        self._entries = sorted(data, key=lambda entry: entry.offset)
        self._offsets = [entry.offset for entry in self._entries]
        self._subject = subject

    def entry(self, tensor: Tensor) -> ZipEntry:
        at = bisect_right(self._offsets, tensor.offset) - 1
        if at < 0:
            raise InputError(
                self._subject, fact="changed while it was read", todo="try again later"
            )
        return self._entries[at]

    def key(self, tensor: Tensor) -> str:
        return self.entry(tensor).name.removeprefix(self._data)


def _data_directory(entries: Mapping[str, ZipEntry]) -> str:
    """Return what the names of the storages begin with; the archive is known to be torch's."""
    pickled = next((name for name in entries if name.endswith(_PICKLE)), _PICKLE)
    return pickled.removesuffix(_PICKLE) + _DATA


def _blocks(
    original: MemberFile, entry: ZipEntry, storage: NewStorage | None
) -> Iterator[memoryview]:
    buffer = np.empty(BLOCK_BYTES, np.uint8)
    for block in original.blocks(entry.offset, entry.size_bytes, buffer):
        yield (cast(block, storage.before, storage.after) if storage else block).data


def _write(
    archive: zipfile.ZipFile, name: str, size_bytes: int, blocks: Iterable[bytes | memoryview]
) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.file_size = size_bytes
    is_large = size_bytes > _ZIP64_FROM
    begin = archive.fp.tell() if archive.fp else 0
    extra = _ZIP64_EXTRA_BYTES if is_large else 0
    taken = begin + _LOCAL_HEADER_BYTES + len(name.encode()) + extra + _EXTRA_HEAD_BYTES
    padding = -taken % _ALIGNMENT
    info.extra = struct.pack("<2H", _PADDING_KIND, padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=is_large) as entry:
        for block in blocks:
            entry.write(block)


def _subject(path: Path) -> str:
    return f"file '{path_text(path)}'"


def _refused(subject: str, fact: str) -> RepairError:
    return RepairError(
        subject,
        fact=f"cannot be cast: it {fact}",
        todo="load it with torch and save it again, or leave it as it is",
    )
