"""The safetensors header: every length, offset and count in it is checked before it is used.

The file is an 8-byte little-endian length, a JSON object of that length, and the tensors' bytes,
which the offsets must tile without a gap (https://github.com/huggingface/safetensors#format).
Stricter than the reference reader in one thing: a key that occurs twice is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeGuard

from sentinel.checkpoint import path_text
from sentinel.dtypes import DTYPES
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.json_text import (
    VALUE_LIMIT,
    has_too_many_values,
    unique_object,
)
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

HEADER_LIMIT_BYTES = 100_000_000
"""The reference reader's own limit."""

MOST_AXES = 64
"""NumPy's limit; torch knows no tensor with more either."""

LENGTH_BYTES = 8
_LARGEST_EXTENT = 2**63 - 1
_METADATA_KEY = "__metadata__"


class HeaderTensor(NamedTuple):
    """One tensor as the header describes it; ``offset`` counts from the file's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


class SafetensorsHeader(NamedTuple):
    """A header that holds together with its file: tensors in the order of their bytes."""

    tensors: tuple[HeaderTensor, ...]
    metadata: Mapping[str, str]


def read_safetensors_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of a safetensors file; no tensor's value is read.

    A file may be whole and hold no tensor: that is a fault of its content, and the rule
    ``empty-checkpoint`` tells it. Raises TruncatedError when the file is shorter than its header
    says or was never filled, another InputError for everything else that is wrong with it.
    """
    with open_regular(path) as (file, size_bytes):
        raw = _header_bytes(path, file, size_bytes)
    entries = _parse(path, raw)
    metadata = _metadata(path, entries.pop(_METADATA_KEY, {}))
    start = LENGTH_BYTES + len(raw)
    tensors = [_tensor(path, name, entry, start) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.offset + tensor.size_bytes))
    _check_tiling(path, tensors, start, size_bytes)
    return SafetensorsHeader(tuple(tensors), metadata)


def _header_bytes(path: Path, file: BinaryIO, size_bytes: int) -> bytes:
    if size_bytes < LENGTH_BYTES:
        _refuse_truncated(path, f"is {size_bytes} bytes long, its header's length alone takes 8")
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if not length:
        _refuse_truncated(path, "begins with zeros: it was laid out and never filled")
    if length > HEADER_LIMIT_BYTES:
        _refuse(
            path,
            f"its header claims {length} bytes, the limit is {HEADER_LIMIT_BYTES}",
            "it is damaged or no safetensors file",
        )
    if LENGTH_BYTES + length > size_bytes:
        _refuse_truncated(path, f"its header takes {length} bytes, the file has {size_bytes}")
    raw = file.read(length)
    if len(raw) != length:
        _refuse_truncated(path, f"its header takes {length} bytes, {len(raw)} could be read")
    return raw


def _parse(path: Path, raw: bytes) -> dict[str, object]:
    if not raw.startswith(b"{"):
        _refuse(path, "its header is no JSON object", "it is damaged or no safetensors file")
    if has_too_many_values(raw):
        _refuse(path, f"its header holds more than {VALUE_LIMIT} values", "it is damaged")
    try:
        parsed: dict[str, object] = json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique_object, parse_constant=_no_constant
        )
        # JSON can spell half a surrogate pair, which no other text in this program may hold.
        _check_text(parsed)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header cannot be read ({_short(str(error))})", "it is damaged")
    return parsed


def _no_constant(text: str) -> NoReturn:
    message = f"{text} is no JSON"
    raise ValueError(message)


def _check_text(parsed: Mapping[str, object]) -> None:
    for key, value in parsed.items():
        key.encode("utf-8")
        if key == _METADATA_KEY and isinstance(value, dict):
            for name, text in value.items():
                f"{name}{text}".encode()


def _metadata(path: Path, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _refuse(path, f"its {_METADATA_KEY} is no map of strings", "it is damaged")
    return MappingProxyType(value)


def _tensor(path: Path, name: str, entry: object, start: int) -> HeaderTensor:
    if not isinstance(entry, dict):
        _refuse_tensor(path, name, "its entry in the header is no JSON object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        _refuse_tensor(path, name, f"its dtype {_short(dtype)} is not known")
    if isinstance(shape, list) and len(shape) > MOST_AXES:
        _refuse_tensor(path, name, f"its shape has {len(shape)} axes, the most are {MOST_AXES}")
    if not _is_counts(shape):
        _refuse_tensor(path, name, "its shape is no list of non-negative numbers")
    if not _is_counts(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        _refuse_tensor(path, name, "its data_offsets are no two non-negative numbers")
    begin, end = offsets
    if begin > end:
        _refuse_tensor(path, name, f"its bytes end at {end}, before they begin at {begin}")
    bits = _bits(shape, DTYPES[dtype].bits, limit=8 * (end - begin))
    if bits != 8 * (end - begin):
        said = _short(str(shape))
        _refuse_tensor(path, name, f"its {dtype} shape {said} is not {end - begin} bytes")
    return HeaderTensor(name, dtype, tuple(shape), start + begin, end - begin)


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number <= _LARGEST_EXTENT for number in value
    )


def _bits(shape: list[int], bits: int, *, limit: int) -> int | None:
    """Return the bits a shape takes, None once they pass the limit."""
    if 0 in shape:
        return 0
    for extent in shape:
        bits *= extent
        if bits > limit:
            return None
    return bits


def _check_tiling(path: Path, tensors: list[HeaderTensor], start: int, size_bytes: int) -> None:
    at = start
    for tensor in tensors:
        if tensor.offset != at:
            what = (
                "overlaps the tensor before it" if tensor.offset < at else "leaves a gap before it"
            )
            _refuse_tensor(path, tensor.name, f"it {what}, at byte {min(at, tensor.offset)}")
        at += tensor.size_bytes
    if at > size_bytes:
        last = next(one for one in tensors if one.offset + one.size_bytes > size_bytes)
        raise TruncatedError(
            f"tensor '{_short(last.name)}'",
            where=f"in '{path_text(path)}'",
            fact=f"its bytes end at {last.offset + last.size_bytes}, the file at {size_bytes}",
            todo="the write was cut short, or is still going on",
        )
    if at < size_bytes:
        _refuse(path, f"its tensors end at byte {at}, the file at {size_bytes}", "it is damaged")


def _refuse(path: Path, fact: str, todo: str) -> NoReturn:
    raise InputError(f"file '{path_text(path)}'", fact=fact, todo=todo)


def _refuse_truncated(path: Path, fact: str) -> NoReturn:
    raise TruncatedError(
        f"file '{path_text(path)}'", fact=fact, todo="the write was cut short, or is still going on"
    )


def _refuse_tensor(path: Path, name: str, fact: str) -> NoReturn:
    raise InputError(
        f"tensor '{_short(name)}'", where=f"in '{path_text(path)}'", fact=fact, todo="it is damaged"
    )


def _short(value: object) -> str:
    # The text of a list inside lists could be deeper than the interpreter goes.
    text = str(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."  # noqa: PLR2004 - a line of a message
