"""From the symbolic calls of a torch pickle to tensors that know where their values lie.

Source of the calls and their arguments: torch/_utils.py (`_rebuild_tensor_v2` and its
neighbours) and torch/serialization.py (`persistent_id`) of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sentinel.checkpoint import Tensor
from sentinel.errors import InputError
from sentinel.formats.containers.numpy_scalars import numpy_scalar
from sentinel.formats.containers.pickle_nodes import Call, Global, Persistent
from sentinel.formats.containers.strides import Extents, check_extents, is_row_major, span_of
from sentinel.formats.containers.torch_dtypes import DTYPE_OF_NAME, DTYPE_OF_STORAGE, bits_of

DEPTH_LIMIT = 40
NODE_LIMIT = 1_000_000

SHARED_NODES = 20_000
"""Values beyond one a byte of the pickle: what is kept in its memo unfolds wherever it is used."""

SHARED_BYTES = 64 * 1024 * 1024
SHARED_TIMES = 20
"""Tensors may lie on the same bytes, as tied weights do: so many times the file, and some bytes
more, are read at most."""

LONGEST_NAME = 4096
_STORAGE_FIELDS = 5
_NESTING = (Call, dict, list, tuple)
_FIRST_TENSOR = frozenset({"_rebuild_parameter", "_rebuild_parameter_with_state"})


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes under one or several tensors; ``offset`` counts from the file's start."""

    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StorageKey:
    """What a pickle says about a storage: its key, its dtype (None: bytes) and its elements.

    ``view_offset`` counts in elements: old files keep views of a storage under its key.
    """

    key: str
    dtype: str | None
    numel: int
    view_offset: int = 0


FindStorage = Callable[[StorageKey], Storage]
"""Returns where a storage lies; raises InputError when it is not there."""


@dataclass(frozen=True, slots=True)
class TorchFile:
    """What a file of `torch.save` holds.

    ``tree`` is the saved object: dictionaries, lists, tuples and plain values as they were, each
    tensor a `Tensor`, everything else a node of `pickle_nodes`. ``tensors`` are those of the tree
    under their dotted paths.
    """

    tree: object
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pickle's value comes from, and what that allows.

    ``member`` is the file's name inside its checkpoint, ``subject`` names it in messages; the
    sizes are those of the whole file and of the pickle alone.
    """

    member: str
    subject: str
    file_bytes: int
    pickle_bytes: int
    big_endian: bool = False


def torch_tree(value: object, origin: Origin, find: FindStorage) -> TorchFile:
    """Turn a pickle's value into tensors and plain values.

    Raises InputError when a tensor reaches beyond its storage, when two have the same path, and
    when the value is deeper or larger than a checkpoint is, or than its file.
    """
    builder = _Builder(origin, find)
    tree = builder.build(value, (), DEPTH_LIMIT)
    return TorchFile(tree, tuple(builder.tensors.values()))


def storage_key(persistent: Persistent) -> StorageKey | None:
    """Return what a persistent id says about a storage, None when it is about something else."""
    fields = persistent.key
    if not isinstance(fields, tuple) or len(fields) < _STORAGE_FIELDS or fields[0] != "storage":
        return None
    kind, key, numel = fields[1], fields[2], fields[4]
    if not isinstance(kind, Global) or not isinstance(key, str) or type(numel) is not int:
        return None
    if kind.name not in DTYPE_OF_STORAGE or numel < 0:
        return None
    view = fields[_STORAGE_FIELDS] if len(fields) > _STORAGE_FIELDS else None
    view_offset = 0
    if isinstance(view, tuple) and len(view) == 3:  # noqa: PLR2004 - key, offset, size
        view_offset = view[1] if type(view[1]) is int and view[1] >= 0 else -1
    return StorageKey(key, DTYPE_OF_STORAGE[kind.name], numel, view_offset)


class _Builder:
    """One walk over a value that may hold itself: depth and nodes are counted."""

    def __init__(self, origin: Origin, find: FindStorage) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._origin = origin
        self._find = find
        self._nodes_left = min(NODE_LIMIT, SHARED_NODES + origin.pickle_bytes)
        self._bytes_left = SHARED_BYTES + SHARED_TIMES * origin.file_bytes

    def build(self, value: object, path: tuple[str, ...], depth: int) -> object:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            self._refuse("unfolds to more values than a file of its length holds")
        if not depth:
            self._refuse(f"is nested deeper than {DEPTH_LIMIT}")
        if isinstance(value, dict):
            return {
                key: self.build(inner, (*path, _segment(key)), depth - 1)
                for key, inner in value.items()
            }
        if isinstance(value, list | tuple):
            items = (
                self.build(inner, (*path, str(at)), depth - 1) for at, inner in enumerate(value)
            )
            return list(items) if isinstance(value, list) else tuple(items)
        return self._call(value, path, depth) if isinstance(value, Call) else value

    def _call(self, call: Call, path: tuple[str, ...], depth: int) -> object:
        name = call.target.name
        if call.target.module == "torch._utils":
            if name in _FIRST_TENSOR and call.arguments:
                return self.build(call.arguments[0], path, depth - 1)
            tensor = self._tensor(call, self._name(path))
            if tensor is not None:
                self._bytes_left -= tensor.size_bytes
                if self._bytes_left < 0:
                    self._refuse("has tensors that lie on the same bytes again and again")
                if self.tensors.setdefault(tensor.name, tensor) is not tensor:
                    self._refuse(f"holds two tensors named '{tensor.name:.200}'")
                return tensor
        if str(call.target) == "torch.nn.parameter.Parameter" and call.arguments:
            return self.build(call.arguments[0], path, depth - 1)
        scalar = numpy_scalar(call)
        if scalar is not None:
            return scalar
        return self._opaque(call, path, depth)

    def _opaque(self, call: Call, path: tuple[str, ...], depth: int) -> Call:
        """Return a call that stays one; what lies in it is tensors of the file too.

        Such are a sparse tensor, a namespace and a wrapper.
        """
        for at, inner in enumerate(call.arguments):
            if isinstance(inner, _NESTING):
                self.build(inner, (*path, str(at)), depth - 1)
        if not isinstance(call.state, _NESTING):
            return call
        return Call(call.target, call.arguments, self.build(call.state, path, depth - 1))

    def _name(self, path: tuple[str, ...]) -> str:
        if sum(map(len, path)) > LONGEST_NAME:
            self._refuse(f"has a name of more than {LONGEST_NAME} characters")
        return ".".join(path)

    def _tensor(self, call: Call, name: str) -> Tensor | None:
        """Return the tensor that a call would rebuild, None when it rebuilds something else."""
        fields = call.arguments
        if call.target.name not in {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}:
            return None
        if len(fields) < 4:  # noqa: PLR2004 - the four that are taken
            self._refuse(f"rebuilds the tensor '{name:.200}' from too little")
        storage, offset, shape, strides = fields[:4]
        key = storage_key(storage) if isinstance(storage, Persistent) else None
        if key is None or key.view_offset < 0:
            self._refuse(f"has a tensor '{name:.200}' in a storage of no known kind")
        dtype = self._dtype(call, key, name)
        extents = check_extents(shape, strides, offset)
        if extents is None:
            self._refuse(f"has a tensor '{name:.200}' whose shape is none")
        return self._placed(name, dtype, key, extents)

    def _dtype(self, call: Call, key: StorageKey, name: str) -> str:
        if call.target.name != "_rebuild_tensor_v3":
            dtype = key.dtype or "U8"
        else:
            named = call.arguments[6] if len(call.arguments) > 6 else None  # noqa: PLR2004 - its place
            known = DTYPE_OF_NAME.get(str(named)) if isinstance(named, Global) else None
            if known is None:
                self._refuse(f"has a tensor '{name:.200}' of an unknown dtype")
            dtype = known
        return dtype

    def _placed(
        self,
        name: str,
        dtype: str,
        key: StorageKey,
        extents: Extents,
    ) -> Tensor:
        shape, strides, offset = extents
        found = self._find(key)
        item_bytes = bits_of(dtype) // 8
        begin = (offset + key.view_offset) * item_bytes
        span_bytes = span_of(shape, strides) * item_bytes
        if begin + span_bytes > found.size_bytes:
            self._refuse(
                f"has a tensor '{name:.200}' that ends at byte {begin + span_bytes} of its"
                f" storage, which has {found.size_bytes}"
            )
        if dtype == "F4":
            # Two values a byte: torch counts the pairs, every other format the values.
            shape = (*shape[:-1], shape[-1] * 2) if shape else (2,)
            if check_extents(shape, shape, 0) is None:
                self._refuse(f"has a tensor '{name:.200}' whose shape is none")
        return Tensor(
            name=name,
            member=self._origin.member,
            dtype=dtype,
            shape=shape,
            offset=found.offset + begin,
            size_bytes=span_bytes,
            strides=None if is_row_major(shape, strides) else strides,
            big_endian=self._origin.big_endian and bits_of(dtype) > 8,  # noqa: PLR2004 - a byte
        )

    def _refuse(self, fact: str) -> NoReturn:
        raise InputError(self._origin.subject, fact=fact, todo="it is damaged or no checkpoint")


def _segment(key: object) -> str:
    return key if isinstance(key, str) else f"{key!s:.100}" if isinstance(key, int) else "?"
