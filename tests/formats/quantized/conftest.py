"""Bases by dtypes and shapes alone, since no weight is ever read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sentinel.checkpoint import Base
from sentinel.dtypes import DTYPES
from sentinel.formats.base import read_base

Spec = tuple[str, tuple[int, ...]] | tuple[str, tuple[int, ...], bytes]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Base]:
    """Return a reader of a base: tensors by dtype and shape, its configuration, other files."""

    def read_specs(
        tensors: Mapping[str, Spec],
        quantization: Mapping[str, object] | None = None,
        *,
        files: Mapping[str, object] | None = None,
        metadata: Mapping[str, str] | None = None,
        **config: object,
    ) -> Base:
        described = {**config, **({"quantization_config": quantization} if quantization else {})}
        for name, content in {"config.json": described, **(files or {})}.items():
            (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        content = safetensors_of(tensors, metadata or {})
        (tmp_path / "model.safetensors").write_bytes(content)
        return read_base(tmp_path)

    return read_specs


def safetensors_of(tensors: Mapping[str, Spec], metadata: Mapping[str, str]) -> bytes:
    """Return a whole file: zeros but for the tensors whose bytes are given."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    data = b""
    for name, (dtype, shape, *content) in tensors.items():
        size_bytes = math.prod(shape) * DTYPES[dtype].bits // 8
        (raw,) = content or (bytes(size_bytes),)
        header[name] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
