"""The numbers in a TensorBoard event file, read without protobuf.

Field numbers are those of event.proto, summary.proto and tensor.proto of
https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto. Only four messages
are entered, each inside the one before, so nesting in the file leads nowhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sentinel.formats.containers.tfrecord import read_records

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_LIMIT_BYTES = 10
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")
_STEP_LIMIT = 2**63
_ELEMENTS = {1: _FLOAT, 2: _DOUBLE, 19: struct.Struct("<e")}
"""How `tensor_content` holds an element of DT_FLOAT, DT_DOUBLE and DT_HALF."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number that was logged; ``at_s`` is the writer's clock, seconds since 1970."""

    step: int
    tag: str
    value: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Events:
    """The last scalars of a file in its order; ``is_all``: none came before."""

    scalars: tuple[Scalar, ...]
    is_all: bool


class _MalformedError(ValueError):
    """A message that is no protobuf, or not the one expected."""


def read_events(path: Path) -> Events:
    """Return the scalars of an event file: `simple_value`, or a tensor of one number.

    Of a torn or damaged file what is whole before the damage, of a very large one the end; an
    event that is malformed in itself is passed over. Raises as `open_regular` does.
    """
    records = read_records(path)
    found: list[Scalar] = []
    for data in records.data:
        try:
            found.extend(_scalars(data))
        except _MalformedError:
            continue
    return Events(tuple(found), records.is_all)


def _scalars(event: bytes) -> list[Scalar]:
    step, at_s = 0, math.nan
    summaries = []
    for field, value in _fields(event):
        if field == 1 and isinstance(value, bytes) and len(value) == _DOUBLE.size:
            at_s = _DOUBLE.unpack(value)[0]
        elif field == 2 and isinstance(value, int):  # noqa: PLR2004 - Event.step
            step = value
        elif field == 5 and isinstance(value, bytes):  # noqa: PLR2004 - Event.summary
            summaries.append(value)
    if step >= _STEP_LIMIT:
        return []
    values = [value for summary in summaries for field, value in _fields(summary) if field == 1]
    named = [_named(value) for value in values if isinstance(value, bytes)]
    return [Scalar(step, tag, number, at_s) for tag, number in named if tag and number is not None]


def _named(value: bytes) -> tuple[str, float | None]:
    """Return the tag and the number of a `Summary.Value`."""
    tag, number = "", None
    for field, content in _fields(value):
        if not isinstance(content, bytes):
            continue
        if field == 1:
            tag = content.decode("utf-8", "replace")
        elif field == 2 and len(content) == _FLOAT.size:  # noqa: PLR2004 - simple_value
            number = _FLOAT.unpack(content)[0]
        elif field == 8:  # noqa: PLR2004 - tensor
            number = _only_element(content)
    return tag, number


def _only_element(tensor: bytes) -> float | None:
    """Return the number of a `TensorProto` that holds exactly one."""
    kind = 0
    content = b""
    repeated: list[float] = []
    for field, value in _fields(tensor):
        if field == 1 and isinstance(value, int):
            kind = value
        elif not isinstance(value, bytes):
            continue
        elif field == 4:  # noqa: PLR2004 - tensor_content
            content = value
        elif field in {5, 6}:
            one = _FLOAT if field == 5 else _DOUBLE  # noqa: PLR2004 - float_val, double_val
            if len(value) == one.size:
                repeated.append(one.unpack(value)[0])
            elif value:
                return None
    element = _ELEMENTS.get(kind)
    if element is not None and content and not repeated:
        return float(element.unpack(content)[0]) if len(content) == element.size else None
    return repeated[0] if len(repeated) == 1 else None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field: an integer, or the bytes of anything else.

    https://protobuf.dev/programming-guides/encoding/; raises _MalformedError.
    """
    at, size = 0, len(message)
    while at < size:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind == _FIXED64:
            length = 8
        elif kind == _FIXED32:
            length = 4
        else:
            raise _MalformedError
        if length > size - at:
            raise _MalformedError
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number, byte in enumerate(message[at : at + _VARINT_LIMIT_BYTES]):
        value |= (byte & 0x7F) << (7 * number)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return value, at + number + 1
    raise _MalformedError
