"""What the probes share: saying what a trainer wrote, as facts that a test can lay out again."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from safetensors import safe_open

JSON_LIMIT_BYTES = 256 * 1024
TEXT_SUFFIXES = {".yaml", ".yml", ".jsonl", ".txt", ".log", ".toml"}
TORCH_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt"}


def described(root: Path) -> dict[str, object]:
    """Return every file below a directory: headers of safetensors, content of JSON, else sizes.

    A safetensors file is `{"tensors": {key: [dtype, shape]}, "metadata": {...}}`, and where there
    are such tensors `"zero": [key, ...]` (all of it is exactly zero) and `"scalars": {key: value}`
    (of one element). A JSON file is `{"json": ...}`, other small text `{"text": ...}`, one of
    torch.save `{"torch": ...}` as `tree_of` says, any other `{"size_bytes": N}`.
    """
    return {
        path.relative_to(root).as_posix(): describe(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def describe(path: Path) -> dict[str, object]:
    """Return one file, as `described` does."""
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".json" and path.stat().st_size <= JSON_LIMIT_BYTES:
        return {"json": json.loads(path.read_text(encoding="utf-8"))}
    if path.suffix in TEXT_SUFFIXES and path.stat().st_size <= JSON_LIMIT_BYTES:
        return {"text": path.read_text(encoding="utf-8")}
    if path.suffix in TORCH_SUFFIXES:
        try:
            return {"torch": tree_of(torch.load(path, weights_only=True))}
        except pickle.UnpicklingError:
            pass
    return {"size_bytes": path.stat().st_size}


def _safetensors(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        slices = {key: file.get_slice(key) for key in sorted(file.keys())}
        found: dict[str, object] = {
            "tensors": {key: [one.get_dtype(), one.get_shape()] for key, one in slices.items()},
            "metadata": dict(file.metadata() or {}),
        }
        values = {key: file.get_tensor(key) for key in slices}
    zero = [key for key, value in values.items() if value.numel() and not value.any()]
    scalars = {key: value.item() for key, value in values.items() if value.numel() == 1}
    found |= {"zero": zero} if zero else {}
    return found | ({"scalars": scalars} if scalars else {})


def tree_of(value: object) -> object:
    """Return what torch.save was given, as JSON.

    A tensor is `{"$tensor": [dtype, shape]}` with torch's name of the dtype, and its value as a
    third where it has one element; a tuple `{"$tuple": [...]}`, a dictionary whose keys are no
    strings `{"$items": [[key, value], ...]}`, anything JSON does not know `{"$repr": text}`.
    """
    if isinstance(value, torch.Tensor):
        single = [value.item()] if value.numel() == 1 else []
        return {"$tensor": [str(value.dtype).removeprefix("torch."), list(value.shape), *single]}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: tree_of(inner) for key, inner in value.items()}
        return {"$items": [[key, tree_of(inner)] for key, inner in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [tree_of(inner) for inner in value]}
    if isinstance(value, list):
        return [tree_of(inner) for inner in value]
    known = value is None or isinstance(value, bool | int | float | str)
    return value if known else {"$repr": repr(value)}
