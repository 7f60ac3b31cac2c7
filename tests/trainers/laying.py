"""Laying out again what a trainer wrote, from the facts alone: no checkout, no trainer."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

FACTS = Path(__file__).parent / "facts"

Fill = Callable[[str, str, tuple[int, ...]], np.ndarray]
"""From a tensor's key, safetensors dtype and shape to its values, as float32."""

_PICKLES = {".bin", ".pkl", ".pt", ".pth"}
_DTYPES = {
    "F64": ("float64", "f8"),
    "F32": ("float32", "f4"),
    "F16": ("float16", "f2"),
    "BF16": ("bfloat16", "u2"),
    "I64": ("int64", "i8"),
    "I32": ("int32", "i4"),
    "U8": ("uint8", "u1"),
    "BOOL": ("bool", "?"),
}


def facts_of(name: str) -> dict[str, Any]:
    """Return what a probe found."""
    return json.loads((FACTS / f"{name}.json").read_text(encoding="utf-8"))


def lay(files: Mapping[str, Any], root: Path, fill: Fill | None = None) -> None:
    """Write files below a directory as `_writing.described` gives them.

    Where `fill` does not say otherwise, tensors that were zero are zero, single values are as they
    were, and all others hold ones. A pickle whose content is not known holds nothing, any other
    file of unknown content zeros of the same number. Needs torch where a file of `torch.save` is
    among them.
    """
    for name, facts in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _lay(path, facts, fill or as_it_was(facts))


def _lay(path: Path, facts: Mapping[str, Any], fill: Fill) -> None:
    if "tensors" in facts:
        _lay_tensors(path, facts, fill)
    elif "json" in facts:
        path.write_text(json.dumps(facts["json"]), encoding="utf-8")
    elif "text" in facts:
        path.write_text(facts["text"], encoding="utf-8")
    elif "torch" in facts:
        import torch  # noqa: PLC0415 - only where such a file is asked for

        torch.save(_tree(facts["torch"], torch), path)
    elif path.suffix in _PICKLES:
        path.write_bytes(_empty_archive())
    else:
        path.write_bytes(bytes(facts["size_bytes"]))


def _empty_archive() -> bytes:
    """Return what torch.save writes for an empty dictionary, without torch."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def as_it_was(facts: Mapping[str, Any], seed: int | None = None) -> Fill:
    """Return what fills one file as far as its facts tell; the rest with ones, or at random."""
    zero, scalars = set(facts.get("zero", ())), facts.get("scalars", {})
    generator = np.random.default_rng(seed)

    def fill(key: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        del dtype
        if key in zero or key in scalars:
            return np.full(shape, scalars.get(key, 0.0), "f4")
        return np.ones(shape, "f4") if seed is None else generator.normal(0, 0.1, shape)

    return fill


def _lay_tensors(path: Path, facts: Mapping[str, Any], fill: Fill) -> None:
    specs, kept = {}, []
    for key, (dtype, shape) in facts["tensors"].items():
        name, kind = _DTYPES[dtype]
        values = np.ascontiguousarray(fill(key, dtype, tuple(shape)), "f4")
        # BF16 is the upper half of a float32.
        stored = (values.view("u4") >> 16).astype(kind) if dtype == "BF16" else values.astype(kind)
        kept.append(stored)
        specs[key] = TensorSpec(
            dtype=name, shape=shape, data_ptr=stored.ctypes.data, data_len=stored.nbytes
        )
    serialize_file(specs, path, facts["metadata"] or None)


def _tree(value: Any, torch: Any) -> Any:
    """Return what torch.save was given, tensors of ones."""
    if isinstance(value, list):
        return [_tree(inner, torch) for inner in value]
    return _dictionary(value, torch) if isinstance(value, dict) else value


def _dictionary(value: Mapping[str, Any], torch: Any) -> Any:
    if "$tensor" in value:
        dtype, shape, *single = value["$tensor"]
        return torch.full(shape, *single or [1], dtype=getattr(torch, dtype))
    if "$tuple" in value:
        return tuple(_tree(inner, torch) for inner in value["$tuple"])
    if "$items" in value:
        return {key: _tree(inner, torch) for key, inner in value["$items"]}
    if "$repr" in value:
        return value["$repr"]
    return {key: _tree(inner, torch) for key, inner in value.items()}
