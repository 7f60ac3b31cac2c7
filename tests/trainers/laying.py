"""Laying out again what a trainer wrote, from the facts alone: no checkout, no trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

FACTS = Path(__file__).parent / "facts"

Fill = Callable[[str, str, tuple[int, ...]], np.ndarray]
"""From a tensor's key, safetensors dtype and shape to its values."""

_NUMPY = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "U8": "u1"}


def facts_of(name: str) -> dict[str, Any]:
    """Return what a probe found."""
    return json.loads((FACTS / f"{name}.json").read_text(encoding="utf-8"))


def lay(files: Mapping[str, Any], root: Path, fill: Fill | None = None) -> None:
    """Write files below a directory as `_writing.described` gives them.

    Tensors hold ones where `fill` does not say otherwise, files of unknown content zeros of the
    same number. Needs torch where a file of `torch.save` is among them.
    """
    for name, facts in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _lay(path, facts, fill or _ones)


def _lay(path: Path, facts: Mapping[str, Any], fill: Fill) -> None:
    if "tensors" in facts:
        tensors = {
            key: fill(key, dtype, tuple(shape)) for key, (dtype, shape) in facts["tensors"].items()
        }
        save_file(tensors, path, facts["metadata"] or None)
    elif "json" in facts:
        path.write_text(json.dumps(facts["json"]), encoding="utf-8")
    elif "text" in facts:
        path.write_text(facts["text"], encoding="utf-8")
    elif "torch" in facts:
        import torch  # noqa: PLC0415 - only where such a file is asked for

        torch.save(_tree(facts["torch"], torch), path)
    else:
        path.write_bytes(bytes(facts["size_bytes"]))


def _ones(key: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    del key
    return np.ones(shape, ml_dtypes.bfloat16 if dtype == "BF16" else _NUMPY[dtype])


def _tree(value: Any, torch: Any) -> Any:
    """Return what torch.save was given, tensors of ones."""
    if isinstance(value, list):
        return [_tree(inner, torch) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        dtype, shape = value["$tensor"]
        return torch.ones(shape, dtype=getattr(torch, dtype))
    if "$tuple" in value:
        return tuple(_tree(inner, torch) for inner in value["$tuple"])
    if "$items" in value:
        return {key: _tree(inner, torch) for key, inner in value["$items"]}
    if "$repr" in value:
        return value["$repr"]
    return {key: _tree(inner, torch) for key, inner in value.items()}
