"""What the gguf package writes: adapters and models as llama.cpp's converters lay them out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from corpus.case import Case, Truth
from corpus.official import Reference

WIDTH = 64
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
"""The types that the package itself can quantise to."""

_QUERIES = tuple(f"blk.{layer}.attn_q" for layer in range(2))


def _writer(path: Path, **options: Any) -> Any:
    return importlib.import_module("gguf").GGUFWriter(path, "llama", **options)


def _add(writer: Any, name: str, values: np.ndarray, kind: str) -> None:
    gguf = importlib.import_module("gguf")
    number = gguf.GGMLQuantizationType["F32" if values.ndim == 1 else kind]
    packed = gguf.quants.quantize(values.astype("f4"), number)
    writer.add_tensor(name, packed, raw_dtype=number)


def _finish(writer: Any) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first: Path = writer.format_shard_names(writer.path)[0]
    return first


def _model(
    kind: str, place: Path, rng: np.random.Generator, *, split: int = 0, nan: bool = False
) -> Path:
    writer = _writer(place / "model.gguf", split_max_tensors=split)
    writer.add_name("Tiny")
    tensors = {"token_embd.weight": rng.normal(size=(40, WIDTH))}
    for query in _QUERIES:
        tensors[f"{query}.weight"] = rng.normal(size=(WIDTH, WIDTH))
    if nan:
        tensors[f"{_QUERIES[0]}.weight"][3, 5] = np.nan
    tensors["output_norm.weight"] = np.ones(WIDTH)
    with np.errstate(all="ignore"):
        for name, values in tensors.items():
            _add(writer, name, values, kind)
    return _finish(writer)


def _lora(place: Path, rng: np.random.Generator, *, trained: bool = True) -> Path:
    """Write what convert_lora_to_gguf.py does."""
    gguf = importlib.import_module("gguf")
    writer = _writer(place / "lora.gguf")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
    for query in _QUERIES:
        up = rng.normal(0, 0.01, (WIDTH, 4)) if trained else np.zeros((WIDTH, 4))
        down = rng.uniform(-1, 1, (4, WIDTH)) / np.sqrt(WIDTH)
        _add(writer, f"{query}.weight.lora_a", down, "F32")
        _add(writer, f"{query}.weight.lora_b", up, "F32")
    return _finish(writer)


def _read(path: Path) -> dict[str, Reference]:
    """Let the package read a file, or all parts of a set; the bytes are those of its blocks."""
    gguf = importlib.import_module("gguf")
    is_set = "-of-" in path.name
    files = sorted(path.parent.glob("*.gguf")) if is_set else [path]
    return {
        tensor.name: Reference(
            tensor.tensor_type.name, tuple(map(int, tensor.shape[::-1])), tensor.data.tobytes()
        )
        for file in files
        for tensor in gguf.GGUFReader(file).tensors
    }


_BASE: Mapping[str, Any] = MappingProxyType({"writer": "gguf", "needs": ("gguf",), "read": _read})
_MODEL = Truth(layout="gguf", roles={"other": 4})
_LORA: Mapping[str, Any] = MappingProxyType(
    {
        "layout": "gguf-lora",
        "roles": {"lora_up": 2, "lora_down": 2},
        "family": "lora",
        "modules": frozenset(_QUERIES),
        "pairs": frozenset({(4, 8.0, 2.0)}),
        "idle": False,
    }
)

CASES: tuple[Case, ...] = (
    *(
        Case(id=f"gguf/{kind}", write=partial(_model, kind), truth=_MODEL, **_BASE)
        for kind in KINDS
    ),
    Case(id="gguf/parts", write=partial(_model, "Q8_0", split=2), truth=_MODEL, **_BASE),
    Case(
        id="gguf/Q8_0-nan",
        write=partial(_model, "Q8_0", nan=True),
        truth=Truth(
            layout="gguf",
            roles={"other": 4},
            verdict="faulty",
            findings=frozenset({"nan-values"}),
            usable=(),
        ),
        fault="NaN",
        **_BASE,
    ),
    Case(id="gguf/lora", write=_lora, truth=Truth(**_LORA), **_BASE),
    Case(
        id="gguf/lora-start",
        write=partial(_lora, trained=False),
        truth=Truth(
            **{
                **_LORA,
                "verdict": "suspect",
                "findings": frozenset({"dead-lora-up"}),
                "idle": True,
            }
        ),
        **_BASE,
    ),
)
