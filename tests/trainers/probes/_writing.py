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

    A safetensors file is `{"tensors": {key: [dtype, shape]}, "metadata": {...}}`, a JSON file
    `{"json": ...}`, other small text `{"text": ...}`, one of torch.save `{"torch": ...}` as
    `tree_of` says, any other
    `{"size_bytes": N}`.
    """
    return {
        path.relative_to(root).as_posix(): _described(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _described(path: Path) -> dict[str, object]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in sorted(file.keys())}
            tensors = {key: [one.get_dtype(), one.get_shape()] for key, one in slices.items()}
            return {"tensors": tensors, "metadata": dict(file.metadata() or {})}
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


def tree_of(value: object) -> object:
    """Return what torch.save was given, as JSON.

    A tensor is `{"$tensor": [dtype, shape]}` with torch's name of the dtype, a tuple
    `{"$tuple": [...]}`, a dictionary whose keys are no strings `{"$items": [[key, value], ...]}`,
    anything JSON does not know `{"$repr": text}`.
    """
    if isinstance(value, torch.Tensor):
        return {"$tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
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
