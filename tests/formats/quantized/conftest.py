"""Bases by dtypes and shapes alone, since no weight is ever read, and a small real model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def llama() -> Callable[[], Any]:
    """Return a maker of one tiny model, the same each time: wide rows, narrow rows, a tied head."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    def make() -> Any:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            hidden_size=256,
            intermediate_size=384,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=128,
            max_position_embeddings=32,
        )
        return transformers.LlamaForCausalLM(config).to(torch.bfloat16)

    return make


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, llama: Callable[[], Any]) -> Path:
    """Where the tiny model lies without quantisation."""
    path = tmp_path_factory.mktemp("plain")
    llama().save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def logical() -> Callable[[Base], dict[str, tuple[int | None, int | None]]]:
    """Return what gives the unpacked shape of every weight of a base."""
    return lambda base: {one.module: (one.out_features, one.in_features) for one in base.weights}


@pytest.fixture
def read_sparingly() -> Callable[[Path], Base]:
    """Return a reader of bases that fails when more is read than headers and small texts."""

    def read_counted(path: Path) -> Base:
        counter = Path("/proc/self/io")
        if not counter.exists():
            return read_base(path)
        before = _bytes_read(counter)
        base = read_base(path)
        spent = _bytes_read(counter) - before
        assert spent < sum(map(_head_bytes, path.rglob("*"))) + _SLACK_BYTES
        return base

    return read_counted


_SLACK_BYTES = 48 * 1024  # buffered readers read ahead, texts lie between the weights


def _bytes_read(counter: Path) -> int:
    return int(counter.read_text().split()[1])


def _head_bytes(path: Path) -> int:
    """What may be read of a file: all of a JSON text, a header, a pickle and its zip directory."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            return 8 + int.from_bytes(file.read(8), "little")
    return path.stat().st_size if path.suffix == ".json" else 128 * 1024


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
