"""NumPy's `.npy` and `.npz`: headers only, an array of Python objects is refused.

The header is a Python literal. Three fields of known kinds are picked out of it and nothing is
given to Python's parser, which was not made for what strangers write.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import Tensor, path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.pickle_source import PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle
from sentinel.formats.containers.strides import check_extents, is_row_major
from sentinel.formats.containers.zip_directory import LOCAL_MAGIC, STORED, read_zip_directory
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

MAGIC = b"\x93NUMPY"
HEADER_LIMIT_BYTES = 64 * 1024
_PREFIX_BYTES = 8
_KINDS = {
    "f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8",
    "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL", "c8": "C64", "c16": "C128",
}  # fmt: skip
_ORDERS = frozenset("<>|=")
_OBJECTS = "|O"
_FIELD = re.compile(
    r"""\s*['"](?P<name>descr|fortran_order|shape)['"]\s*:\s*"""
    r"""(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<flag>True|False)|\((?P<extents>[^()]*)\))"""
    r"""\s*(?:,|$)"""
)
_EXTENT = re.compile(r"\s*(\d{1,20})L?\s*")


def read_numpy_file(path: Path, *, member: str | None = None) -> tuple[Tensor, ...]:
    """Return the arrays of a `.npy` or `.npz` file; no value is read.

    Raises TruncatedError when the file is cut short, another InputError for compressed members,
    arrays of objects, and everything else that cannot be read in place.
    """
    subject = f"file '{path_text(path)}'"
    name = path.name if member is None else member
    with open_regular(path) as (file, size_bytes):
        if file.read(len(LOCAL_MAGIC)) != LOCAL_MAGIC:
            return (_array(file, subject, name, path.stem, start=0, size_bytes=size_bytes),)
        found: dict[str, Tensor] = {}
        for entry in read_zip_directory(file, size_bytes, subject).values():
            if entry.method != STORED:
                raise _refused(subject, f"'{entry.name:.200}' in it is compressed")
            label = entry.name.removesuffix(".npy")
            if label in found:
                raise _refused(subject, f"two arrays in it are called '{label:.200}'")
            found[label] = _array(
                file, subject, name, label, start=entry.offset, size_bytes=entry.size_bytes
            )
        return tuple(found.values())


def _array(
    file: BinaryIO, subject: str, member: str, label: str, *, start: int, size_bytes: int
) -> Tensor:
    file.seek(start)
    prefix = file.read(min(_PREFIX_BYTES, size_bytes))
    if not prefix.startswith(MAGIC) or len(prefix) < _PREFIX_BYTES:
        raise _refused(subject, f"'{label:.200}' in it is no array of NumPy")
    width = 2 if prefix[len(MAGIC)] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    begin = _PREFIX_BYTES + width + length
    if length > HEADER_LIMIT_BYTES:
        raise _refused(subject, f"the header of '{label:.200}' takes {length} bytes")
    if begin > size_bytes:
        raise _cut(subject, label)
    fields = _fields(file.read(length))
    if fields.get("descr") == _OBJECTS:
        # To be refused in any case; what loading it would call is worth to be said.
        read_pickle(PickleSource(file, size_bytes - begin, subject))
    head = _header(fields, subject, label)
    taken = math.prod(head.shape) * head.item_bytes
    if begin + taken > size_bytes:
        raise _cut(subject, label)
    return Tensor(
        label,
        member,
        head.dtype,
        head.shape,
        start + begin,
        taken,
        strides=head.strides,
        big_endian=head.big_endian,
    )


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: str
    item_bytes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    big_endian: bool


def _fields(raw: bytes) -> dict[str, object]:
    """Return the fields of a header, none when it is not the description of a plain array."""
    text = raw.decode("latin-1").strip()
    if not text.startswith("{") or not text.endswith("}"):
        return {}
    found: dict[str, object] = {}
    at, body = 0, text[1:-1].rstrip()
    while at < len(body):
        field = _FIELD.match(body, at)
        if field is None or field["name"] in found:
            return {}
        if field["extents"] is not None:
            found[field["name"]] = _extents(field["extents"])
        elif field["flag"]:
            found[field["name"]] = field["flag"] == "True"
        else:
            found[field["name"]] = field["single"] or field["double"] or ""
        at = field.end()
    return found


def _extents(text: str) -> tuple[int, ...] | None:
    parts = [_EXTENT.fullmatch(part) for part in text.split(",") if part.strip()]
    return tuple(int(part[1]) for part in parts if part) if all(parts) else None


def _header(fields: Mapping[str, object], subject: str, label: str) -> _Header:
    descr, shape, columns = (fields.get(name) for name in ("descr", "shape", "fortran_order"))
    if not isinstance(descr, str) or not isinstance(columns, bool):
        raise _refused(subject, f"the header of '{label:.200}' is not of a plain array")
    order, kind = descr[:1], descr[1:]
    extents = check_extents(shape, shape, 0)
    if kind not in _KINDS or order not in _ORDERS or extents is None:
        raise _refused(subject, f"'{label:.200}' is of dtype {descr!r:.50}, or of no shape")
    item_bytes = int(kind[1:])
    return _Header(
        _KINDS[kind],
        item_bytes,
        extents[0],
        _column_major(extents[0]) if columns else None,
        order == ">" and item_bytes > 1,
    )


def _column_major(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    strides = tuple(math.prod(shape[:axis]) for axis in range(len(shape)))
    return None if is_row_major(shape, strides) else strides


def _refused(subject: str, fact: str) -> InputError:
    return InputError(subject, fact=fact, todo="save it as safetensors, or check what wrote it")


def _cut(subject: str, label: str) -> TruncatedError:
    return TruncatedError(
        subject,
        fact=f"it ends inside the array '{label:.200}'",
        todo="the write was cut short, or is still going on",
    )
