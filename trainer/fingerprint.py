"""A name for the weights of a base model that does not depend on where they lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SAMPLES = 16
_SAMPLE_BYTES = 1 << 16
_PATTERNS = ("config.json", "*.safetensors", "pytorch_model*.bin")


def fingerprint(model: str, commit: str | None) -> str | None:
    """Return a base's fingerprint: the hub's commit, or a digest of a directory's weights.

    The digest covers config.json, the name and size of each weight file, and samples spread
    evenly over each (64 KiB each), so it takes milliseconds whatever the size; it tells
    models apart, it does not prove integrity. None when nothing is there to be read.
    """
    directory = Path(model)
    if not directory.is_dir():
        return f"hub:{model}@{commit}" if commit else None
    files = sorted({path for pattern in _PATTERNS for path in directory.glob(pattern)})
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        size_bytes = path.stat().st_size
        digest.update(f"{path.name}\0{size_bytes}\0".encode())
        with path.open("rb") as file:
            for at in _offsets(size_bytes):
                file.seek(at)
                digest.update(file.read(_SAMPLE_BYTES))
    return f"sha256:{digest.hexdigest()}"


def _offsets(size_bytes: int) -> list[int]:
    """Return where the samples begin; a small file is covered whole."""
    if size_bytes <= _SAMPLES * _SAMPLE_BYTES:
        return list(range(0, size_bytes, _SAMPLE_BYTES))
    last = size_bytes - _SAMPLE_BYTES
    return [last * number // (_SAMPLES - 1) for number in range(_SAMPLES)]
