"""What the probes share: saying what a trainer wrote, as facts that a test can lay out again."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

JSON_LIMIT_BYTES = 256 * 1024


def described(root: Path) -> dict[str, object]:
    """Return every file below a directory: headers of safetensors, content of JSON, else sizes.

    A safetensors file is `{"tensors": {key: [dtype, shape]}, "metadata": {...}}`, a JSON file
    `{"json": ...}`, any other `{"size_bytes": N}`.
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
    return {"size_bytes": path.stat().st_size}
