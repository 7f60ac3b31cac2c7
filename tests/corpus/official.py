"""The official readers: every tensor's dtype, shape and bytes as the format's own library sees it.

A reader returns tensors by name; the bytes are the elements in the order of the shape,
little-endian.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Reference:
    """One tensor as the official reader gives it; ``dtype`` is the name safetensors uses."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Reader = Callable[[Path], Mapping[str, Reference]]

TORCH_DTYPES: Mapping[str, str] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex64": "C64", "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
_NUMPY_DTYPES = {
    "f": {8: "F64", 4: "F32", 2: "F16"},
    "i": {8: "I64", 4: "I32", 2: "I16", 1: "I8"},
    "u": {8: "U64", 4: "U32", 2: "U16", 1: "U8"},
    "b": {1: "BOOL"},
    "c": {8: "C64", 16: "C128"},
}


def safetensors(path: Path) -> dict[str, Reference]:
    """Read one file, or every safetensors file of a directory, with safetensors' own parser."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    deserialize = importlib.import_module("safetensors").deserialize
    return {
        name: Reference(found["dtype"], tuple(found["shape"]), bytes(found["data"]))
        for file in files
        for name, found in deserialize(file.read_bytes())
    }


def in_file(name: str, reader: Reader) -> Reader:
    """Return a reader of one file of a checkpoint's directory."""
    return lambda path: reader(path / name)


def in_files(pattern: str, reader: Reader) -> Reader:
    """Return a reader of the files of a checkpoint's directory whose names match."""

    def read(path: Path) -> dict[str, Reference]:
        return {
            name: found
            for file in sorted(path.glob(pattern))
            for name, found in reader(file).items()
        }

    return read


def torch_file(path: Path) -> dict[str, Reference]:
    """Read with `torch.load` what sentinel calls the weights: a tree's tensors by dotted name."""
    tree = importlib.import_module("torch").load(path, map_location="cpu", weights_only=True)
    wrapped = tree.get("state_dict") if isinstance(tree, Mapping) else None
    return {
        name: of_torch(tensor)
        for name, tensor in _tensors(tree if wrapped is None else wrapped, "")
    }


def numpy_file(path: Path) -> dict[str, Reference]:
    """Read an archive with `numpy.load`."""
    with np.load(path) as arrays:
        return {name: _of_numpy(arrays[name]) for name in arrays.files}


def of_torch(tensor: Any) -> Reference:
    """Return a tensor of torch's as it would be written row by row."""
    torch = importlib.import_module("torch")
    plain = tensor.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
    return Reference(
        TORCH_DTYPES[str(plain.dtype).removeprefix("torch.")], tuple(plain.shape), data
    )


def _of_numpy(array: np.ndarray) -> Reference:
    dtype = _NUMPY_DTYPES[array.dtype.kind][array.dtype.itemsize]
    little = array.astype(array.dtype.newbyteorder("<"), order="C")
    return Reference(dtype, array.shape, little.tobytes())


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "untyped_storage"):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _tensors(inner, f"{name}.{at}" if name else str(at))
