"""Plain tensors of every dtype in every container, as safetensors, torch and NumPy write them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from corpus import official
from corpus.case import Case, Truth
from corpus.models import seed_torch

FLOATS: Mapping[str, str] = MappingProxyType(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
    }
)
OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
        "C64": "complex64",
    }
)
PACKED: Mapping[str, int] = MappingProxyType({"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6})
"""Bits an element of the dtypes whose elements share bytes."""

_SHAPE = (4, 8)
_NOT_KNOWN = frozenset({"unknown-layout"})


def _values(dtype: str, *, nan: bool = False) -> Any:
    """Values that a dtype can hold, all finite; with ``nan`` one is not a number."""
    torch = importlib.import_module("torch")
    kind = getattr(torch, {**FLOATS, **OTHERS}[dtype])
    if dtype in OTHERS and dtype != "C64":
        return torch.randint(0, 2 if dtype == "BOOL" else 100, _SHAPE).to(kind)
    values = torch.randn(_SHAPE)
    if dtype == "F8_E8M0":
        values = 2.0 ** torch.randint(-8, 8, _SHAPE).float()
    if nan:
        values[1, 2] = float("nan")
    return values.to(kind)


def _safetensors(dtype: str, place: Path, rng: np.random.Generator, *, nan: bool = False) -> Path:
    seed_torch(rng)
    save_file = importlib.import_module("safetensors.torch").save_file
    path = place / "values.safetensors"
    save_file({"first": _values(dtype), "second": _values(dtype, nan=nan)}, path)
    return path


def _packed(dtype: str, place: Path, rng: np.random.Generator) -> Path:
    """Elements that share bytes: the Python writer has names for F4 only, the format for all."""
    numpy = importlib.import_module("safetensors.numpy")
    size = _SHAPE[0] * _SHAPE[1] * PACKED[dtype] // 8
    path = place / "values.safetensors"
    raw = numpy.save({"first": rng.integers(0, 256, size, np.uint8)})
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    header["first"] |= {"dtype": dtype, "shape": _SHAPE}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[end:])
    return path


def _torch(place: Path, rng: np.random.Generator, *, as_zip: bool) -> Path:
    """Every dtype, and views that share a storage, lie across it or leave gaps."""
    torch = seed_torch(rng)
    names = [*FLOATS, *OTHERS] if as_zip else ["F64", "F32", "F16", "BF16", "I64", "U8", "BOOL"]
    tensors = {name: _values(name) for name in names}
    base = torch.randn(24)
    tensors |= {
        "scalar": torch.tensor(2.5),
        "transposed": base.reshape(4, 6).T,
        "shared": base[6:12],
        "parameter": torch.nn.Parameter(base[:4].clone()),
    }
    path = place / "values.pt"
    nested = {"epoch": 3, "state_dict": tensors}
    torch.save(nested, path, _use_new_zipfile_serialization=as_zip)
    return path


def _numpy(place: Path, rng: np.random.Generator, *, nan: bool = False) -> Path:
    arrays = {
        "f8": rng.normal(size=_SHAPE),
        "f4": rng.normal(size=_SHAPE).astype("f4"),
        "f2": rng.normal(size=_SHAPE).astype("f2"),
        "i8": rng.integers(0, 100, _SHAPE),
        "u1": rng.integers(0, 100, _SHAPE, np.uint8),
        "b1": rng.integers(0, 2, _SHAPE).astype(bool),
        "fortran": np.asfortranarray(rng.normal(size=_SHAPE)),
        "big": rng.normal(size=_SHAPE).astype(">f4"),
    }
    if nan:
        arrays["f4"][0, 0] = np.nan
    np.savez(place / "values.npz", **arrays)
    return place / "values.npz"


def _truth(count: int, *more: str, **changes: Any) -> Truth:
    known = {"verdict": "suspect", "usable": ("weights",), **changes}
    findings = _NOT_KNOWN | set(more)
    return Truth(layout="unknown", findings=findings, roles={"other": count}, **known)


def _dtypes() -> Iterator[Case]:
    common: Mapping[str, Any] = {"writer": "safetensors", "read": official.safetensors}
    nan: Mapping[str, Any] = {"verdict": "faulty", "usable": ()}
    for dtype in (*FLOATS, *OTHERS):
        yield Case(
            id=f"safetensors/{dtype}",
            write=partial(_safetensors, dtype),
            truth=_truth(2),
            needs=("torch",),
            **common,
        )
    for dtype in (*FLOATS, "C64"):
        yield Case(
            id=f"safetensors/{dtype}-nan",
            write=partial(_safetensors, dtype, nan=True),
            truth=_truth(2, "nan-values", **nan),
            needs=("torch",),
            fault="NaN",
            **common,
        )
    for dtype in PACKED:
        yield Case(
            id=f"safetensors/{dtype}",
            write=partial(_packed, dtype),
            truth=_truth(1),
            **common,
        )


_TORCH: Mapping[str, Any] = MappingProxyType(
    {"writer": "torch", "needs": ("torch",), "read": official.torch_file, "named": True}
)
_NUMPY: Mapping[str, Any] = MappingProxyType(
    {"writer": "numpy", "read": official.numpy_file, "named": True}
)

CASES: tuple[Case, ...] = (
    *_dtypes(),
    Case(id="torch/zip", write=partial(_torch, as_zip=True), truth=_truth(23), **_TORCH),
    Case(id="torch/legacy", write=partial(_torch, as_zip=False), truth=_truth(11), **_TORCH),
    Case(id="numpy/npz", write=_numpy, truth=_truth(8), **_NUMPY),
    Case(
        id="numpy/npz-nan",
        write=partial(_numpy, nan=True),
        truth=_truth(8, "nan-values", verdict="faulty", usable=()),
        fault="NaN",
        **_NUMPY,
    ),
)
