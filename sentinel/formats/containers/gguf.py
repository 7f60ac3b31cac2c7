"""GGUF, the files of llama.cpp: header and metadata, versions 2 and 3, in either byte order.

Magic, version, two counts, the metadata, a description of each tensor, and then the tensors'
bytes, which tile the rest of the file in steps of the alignment. Source:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and src/gguf.cpp there, which refuses a
gap too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import Tensor, path_text
from sentinel.dtypes import BLOCKS, DTYPES
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.gguf_cursor import GgufCursor
from sentinel.formats.containers.gguf_metadata import KEY_LIMIT, GgufValue, read_metadata
from sentinel.formats.containers.gguf_types import GGML_TYPES, REMOVED_TYPES
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = frozenset({2, 3})
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32

TENSOR_LIMIT = 2**17
DIMENSION_LIMIT = 8
"""ggml has four axes; the specification lets a later version have more."""

_LARGEST_ALIGNMENT = 2**20
_LARGEST_EXTENT = 2**63 - 1
_LARGEST_BYTES = 2**50
_SMALLEST_INFO_BYTES = 24
_LOW_HALF = 0xFFFF
_DAMAGED = "it is damaged"


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself; tensors in the order of their bytes.

    Shapes are as torch has them, the reverse of ggml's: a weight is (out, in).
    """

    version: int
    big_endian: bool
    alignment: int
    metadata: Mapping[str, GgufValue]
    tensors: tuple[Tensor, ...]


def read_gguf(path: Path, *, member: str | None = None) -> GgufFile:
    """Read and check the header of a GGUF file; no tensor's value is read.

    ``member`` is the tensors' member, the file's name by default. Raises TruncatedError when
    the file is shorter than its header says, another InputError for everything else that is
    wrong with it.
    """
    subject = f"file '{path_text(path)}'"
    with open_regular(path) as (file, size_bytes):
        cursor = GgufCursor(file, size_bytes, subject)
        version = _version(cursor)
        tensor_count = cursor.count("Q", "the number of tensors", limit=TENSOR_LIMIT)
        key_count = cursor.count("Q", "the number of metadata keys", limit=KEY_LIMIT)
        metadata = read_metadata(cursor, key_count)
        alignment = _alignment(cursor, metadata)
        cursor.need(tensor_count * _SMALLEST_INFO_BYTES, "the descriptions of its tensors")
        reader = _Tensors(cursor, path, path.name if member is None else member)
        found = [reader.read() for _ in range(tensor_count)]
        begin = _padded(cursor.at, alignment)
    tensors = _placed(path, found, begin, alignment)
    _check_end(path, tensors, alignment, size_bytes)
    return GgufFile(version, cursor.is_big_endian, alignment, metadata, tensors)


def _version(cursor: GgufCursor) -> int:
    magic = cursor.take(len(MAGIC), "its magic number")
    if magic != MAGIC:
        raise cursor.refused(f"begins with {magic!r}, not with {MAGIC!r}")
    raw = cursor.take(4, "its version")
    version = int.from_bytes(raw, "little")
    if not version & _LOW_HALF:
        # A small number whose low half is zero was written the other way round.
        cursor.turn()
        version = int.from_bytes(raw, "big")
    if version not in VERSIONS:
        raise cursor.refused(f"is of version {version}, known are 2 and 3")
    return version


def _alignment(cursor: GgufCursor, metadata: Mapping[str, GgufValue]) -> int:
    found = metadata.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
    is_power = type(found) is int and found > 0 and not found & (found - 1)
    if type(found) is not int or not is_power or found > _LARGEST_ALIGNMENT:
        raise cursor.refused(f"its {ALIGNMENT_KEY} is {found!s:.50}, no usable power of two")
    return found


class _Tensors:
    """The descriptions of the tensors, one after another; offsets count from the data's begin."""

    def __init__(self, cursor: GgufCursor, path: Path, member: str) -> None:
        self._cursor = cursor
        self._path = path
        self._member = member
        self._names: set[str] = set()

    def read(self) -> Tensor:
        cursor = self._cursor
        name = cursor.name(f"the name of tensor {len(self._names)}")
        if name in self._names:
            raise cursor.refused(f"has two tensors of the name '{name:.200}'")
        self._names.add(name)
        what = f"the description of tensor '{name:.200}'"
        axes = cursor.count(
            "I", f"the number of axes of tensor '{name:.200}'", limit=DIMENSION_LIMIT
        )
        extents = [int(cursor.number("Q", what)) for _ in range(axes)]
        dtype = self._dtype(name, int(cursor.number("I", what)))
        offset = int(cursor.number("Q", what))
        shape = tuple(reversed(extents))
        return Tensor(
            name=name,
            member=self._member,
            dtype=dtype,
            shape=shape,
            offset=offset,
            size_bytes=self._size_bytes(name, dtype, shape),
            big_endian=cursor.is_big_endian and _has_words(dtype),
        )

    def _dtype(self, name: str, number: int) -> str:
        if number in REMOVED_TYPES:
            raise self._broken(
                name,
                f"its type {REMOVED_TYPES[number]} was taken out of the format",
                "convert the model again",
            )
        if number not in GGML_TYPES:
            raise self._broken(
                name, f"its type {number} is not known", "update sentinel, or check it"
            )
        return GGML_TYPES[number]

    def _size_bytes(self, name: str, dtype: str, shape: tuple[int, ...]) -> int:
        if any(extent > _LARGEST_EXTENT for extent in shape):
            raise self._broken(name, f"its shape {shape} is too large")
        block = BLOCKS.get(dtype)
        row = shape[-1] if shape else 1
        if block is not None and row % block.elements:
            fact = f"its rows of {row} values are no whole {dtype} blocks of {block.elements}"
            raise self._broken(name, fact)
        numel = 1
        for extent in shape:
            numel *= extent
        if block is not None:
            size_bytes = numel // block.elements * block.size_bytes
        else:
            size_bytes = numel * DTYPES[dtype].bits // 8
        if size_bytes > _LARGEST_BYTES:
            raise self._broken(name, f"its shape {shape} is {size_bytes} bytes")
        return size_bytes

    def _broken(self, name: str, fact: str, todo: str = _DAMAGED) -> InputError:
        return _broken(self._path, name, fact, todo)


def _broken(path: Path, name: str, fact: str, todo: str = _DAMAGED) -> InputError:
    where = f"in '{path_text(path)}'"
    return InputError(f"tensor '{name:.200}'", where=where, fact=fact, todo=todo)


def _has_words(dtype: str) -> bool:
    """Tell whether the order of bytes matters for a dtype."""
    if dtype in BLOCKS:
        return any(scale.word_bytes > 1 for scale in BLOCKS[dtype].scales)
    return DTYPES[dtype].bits > 8  # noqa: PLR2004 - a byte


def _padded(at: int, alignment: int) -> int:
    return -(-at // alignment) * alignment


def _placed(path: Path, found: list[Tensor], begin: int, alignment: int) -> tuple[Tensor, ...]:
    """Return the tensors with offsets in the file; they must tile the data, padded."""
    tensors = sorted(found, key=lambda one: (one.offset, one.offset + one.size_bytes))
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            way = "overlaps the tensor before it" if tensor.offset < expected else "leaves a gap"
            fact = f"it {way}: it begins at byte {tensor.offset} of the data, not at {expected}"
            raise _broken(path, tensor.name, fact)
        expected = _padded(expected + tensor.size_bytes, alignment)
    return tuple(replace(tensor, offset=begin + tensor.offset) for tensor in tensors)


def _check_end(path: Path, tensors: tuple[Tensor, ...], alignment: int, size_bytes: int) -> None:
    """Refuse a file that is shorter than its tensors, or longer than them with their padding."""
    last = max(tensors, key=lambda one: one.offset + one.size_bytes, default=None)
    if last is None:
        return
    end = last.offset + last.size_bytes
    if last.size_bytes and end > size_bytes:
        cut = next(one for one in tensors if one.offset + one.size_bytes > size_bytes)
        raise TruncatedError(
            f"tensor '{cut.name:.200}'",
            where=f"in '{path_text(path)}'",
            fact=f"its bytes end at {cut.offset + cut.size_bytes}, the file at {size_bytes}",
            todo="the write was cut short, or is still going on",
        )
    if size_bytes > _padded(end, alignment):
        raise InputError(
            f"file '{path_text(path)}'",
            fact=f"its tensors end at byte {end}, the file at {size_bytes}",
            todo=_DAMAGED,
        )
