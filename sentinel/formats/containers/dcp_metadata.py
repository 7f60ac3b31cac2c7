"""The `.metadata` of a distributed checkpoint of torch: which chunk of which tensor lies where.

It is a pickle of `torch.distributed.checkpoint.metadata.Metadata`, read as any pickle here
without being run. Sources: torch/distributed/checkpoint/metadata.py and filesystem.py
(`_StorageInfo`) of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeGuard

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.containers.pickle_nodes import Call, Global
from sentinel.formats.containers.pickle_source import PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle
from sentinel.formats.containers.strides import check_extents
from sentinel.formats.containers.tiling import Box, tiling_mistake
from sentinel.formats.containers.torch_dtypes import DTYPE_OF_NAME
from sentinel.formats.files import open_regular
from sentinel.formats.naming import is_plain_name
from sentinel.formats.scalars import brief

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_NAME = 4096
CHUNK_LIMIT = 2**16
"""Chunks of one tensor: more than any training has processes."""

_LARGEST = 2**63 - 1
_PACKAGE = "torch.distributed.checkpoint."

Key = tuple[str, tuple[int, ...] | None]
"""A name and where its chunk begins; None for what is no tensor."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """Where the bytes of a chunk or of an object lie: a file beside `.metadata`.

    ``transforms`` are the names of what was done to the bytes (compression), the last first.
    """

    file: str
    offset: int
    size_bytes: int
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DistributedTensor:
    """A tensor of the checkpoint; ``chunks`` tile its shape and leave out those of no element."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[tuple[Box, StoredItem], ...]


@dataclass(frozen=True, slots=True)
class DistributedMetadata:
    """What a `.metadata` says, checked against itself; no other file was looked at.

    ``objects`` are values that are no tensors, each pickled for itself. ``paths`` tells for a
    name its keys in the nested state that was saved, where the writer kept them.
    """

    tensors: tuple[DistributedTensor, ...]
    objects: Mapping[str, StoredItem]
    paths: Mapping[str, tuple[str | int, ...]]


def read_dcp_metadata(path: Path) -> DistributedMetadata:
    """Read a `.metadata`; raises as `read_pickle` does.

    An InputError also says when chunks overlap or leave a hole, when a number is none, and when
    a name leads out of the directory.
    """
    subject = f"file '{path_text(path)}'"
    with open_regular(path) as (file, size_bytes):
        value = read_pickle(PickleSource(file, size_bytes, subject))
    return _Reader(subject).read(value)


class _Reader:
    """One value of a pickle, field by field."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def read(self, value: object) -> DistributedMetadata:
        fields = _fields(value, "metadata.Metadata")
        described = fields and fields.get("state_dict_metadata")
        stored = fields and fields.get("storage_data")
        if not fields or not isinstance(described, dict) or not isinstance(stored, dict):
            self._refuse("is no description of a distributed checkpoint")
        items = dict(self._item(key, info) for key, info in stored.items())
        tensors: list[DistributedTensor] = []
        objects: dict[str, StoredItem] = {}
        for name, entry in described.items():
            if not isinstance(name, str) or len(name) > LONGEST_NAME:
                self._refuse("has a name that is no text, or too long a one")
            tensor = _fields(entry, "metadata.TensorStorageMetadata")
            if tensor is not None:
                tensors.append(self._tensor(name, tensor, items))
            elif (name, None) in items:
                objects[name] = items[name, None]
            else:
                self._refuse(f"says of '{name:.200}' neither what it is nor where it lies")
        self._check_places(items.values())
        return DistributedMetadata(tuple(tensors), objects, _paths(fields.get("planner_data")))

    def _check_places(self, items: Iterable[StoredItem]) -> None:
        """Refuse two items that share bytes."""
        end_of: dict[str, int] = {}
        for item in sorted(items, key=lambda one: (one.file, one.offset)):
            if item.offset < end_of.get(item.file, 0):
                self._refuse(f"puts two things at byte {item.offset} of '{item.file:.200}'")
            end_of[item.file] = item.offset + item.size_bytes

    def _item(self, key: object, info: object) -> tuple[Key, StoredItem]:
        index = _fields(key, "metadata.MetadataIndex")
        place = _fields(info, "filesystem._StorageInfo")
        name = index.get("fqn") if index else None
        if not index or not place or not isinstance(name, str):
            self._refuse("has an entry of no known kind among its places")
        file, offset, length = (place.get(one) for one in ("relative_path", "offset", "length"))
        if not isinstance(file, str) or not is_plain_name(file):
            self._refuse(f"puts '{name:.200}' into '{brief(file)}', which is no file beside it")
        if not _is_count(offset) or not _is_count(length) or offset + length > _LARGEST:
            self._refuse(f"puts '{name:.200}' at byte {brief(offset)}, {brief(length)} bytes long")
        transforms = place.get("transform_descriptors") or ()
        if not isinstance(transforms, list | tuple):
            self._refuse(f"has something unknown done to '{name:.200}'")
        at = index.get("offset")
        if at is not None and not _is_counts(at):
            self._refuse(f"has a chunk of '{name:.200}' that begins nowhere")
        done = tuple(map(brief, transforms))
        return (name, at), StoredItem(file, offset, length, done)

    def _tensor(
        self, name: str, fields: Mapping[object, object], items: Mapping[Key, StoredItem]
    ) -> DistributedTensor:
        shape, chunks = fields.get("size"), fields.get("chunks")
        if not _is_counts(shape) or check_extents(shape, shape, 0) is None:
            self._refuse(f"its tensor '{name:.200}' has a shape that is none")
        if not isinstance(chunks, list):
            self._refuse(f"its tensor '{name:.200}' has no chunks")
        if len(chunks) > CHUNK_LIMIT:
            self._refuse(f"its tensor '{name:.200}' has {len(chunks)} chunks")
        boxes = [box for box in (self._box(name, chunk) for chunk in chunks) if 0 not in box[1]]
        mistake = tiling_mistake(shape, boxes)
        if mistake:
            self._refuse(f"its tensor '{name:.200}' {mistake}")
        dtype, found = self._dtype(name, fields), []
        for place, extents in sorted(boxes):
            item = items.get((name, place))
            if item is None:
                self._refuse(f"does not say where a chunk of '{name:.200}' lies")
            found.append(((_values(dtype, place), _values(dtype, extents)), item))
        return DistributedTensor(name, dtype, _values(dtype, shape), tuple(found))

    def _box(self, name: str, chunk: object) -> Box:
        fields = _fields(chunk, "metadata.ChunkStorageMetadata") or {}
        place, extents = fields.get("offsets"), fields.get("sizes")
        if not _is_counts(place) or not _is_counts(extents):
            self._refuse(f"its tensor '{name:.200}' has a chunk that is none")
        return place, extents

    def _dtype(self, name: str, fields: Mapping[object, object]) -> str:
        properties = fields.get("properties")
        state = properties.state if isinstance(properties, Call) else None
        named = state.get("dtype") if isinstance(state, dict) else state
        if isinstance(named, tuple) and named:
            named = named[0]
        known = DTYPE_OF_NAME.get(str(named)) if isinstance(named, Global) else None
        if known is None:
            self._refuse(f"its tensor '{name:.200}' is of an unknown dtype")
        return known

    def _refuse(self, fact: str) -> NoReturn:
        raise InputError(self._subject, fact=fact, todo="it is damaged, or no checkpoint")


def _values(dtype: str, extents: tuple[int, ...]) -> tuple[int, ...]:
    """Return extents that count values: torch counts F4 in pairs."""
    return (*extents[:-1], extents[-1] * 2) if dtype == "F4" and extents else extents


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(map(_is_count, value))


def _fields(value: object, kind: str) -> Mapping[object, object] | None:
    """Return the fields of a dataclass of torch's, None for anything else."""
    if not isinstance(value, Call) or str(value.target) != _PACKAGE + kind:
        return None
    return value.state if isinstance(value.state, dict) else None


def _paths(planned: object) -> Mapping[str, tuple[str | int, ...]]:
    """Return the keys of each name in the nested state; what is no such thing is left out."""
    if not isinstance(planned, dict):
        return {}
    return {
        name: path
        for name, path in planned.items()
        if isinstance(name, str)
        and isinstance(path, tuple)
        and all(isinstance(key, str | int) for key in path)
    }
