"""Bases by dtypes and shapes alone, since no weight is ever read, and a small real model."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import sentinel
from sentinel.checkpoint import Base
from sentinel.dtypes import DTYPES
from sentinel.formats.base import read_base

Shapes = Callable[[Base], dict[str, tuple[int | None, int | None]]]
Reader = Callable[[Path], Base]
Said = Callable[[Path], set[str]]
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
def adapter(tmp_path_factory: pytest.TempPathFactory, plain: Path) -> Path:
    """An adapter on every linear layer of the tiny model, after two steps by PEFT."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(plain),
        peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], 1e-4)
    for _ in range(2):
        tokens = torch.randint(0, 128, (2, 8))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def said(adapter: Path) -> Said:
    """Return what names the rules that find something in the adapter on a base."""

    def rules(base: Path) -> set[str]:
        (judgement,) = sentinel.scan(adapter, base=base, settle_s=0)
        asked = {"adapter-keys-mismatch-base", "adapter-shape-mismatch-base"}
        assert not asked & {one.rule for one in judgement.verdict.not_evaluated}
        return {found.rule for found in judgement.verdict.findings} - QUANTO

    return rules


QUANTO = {"quanto-resume"}
"""What is told of every adapter on a base of optimum-quanto's: info about its older releases."""


@pytest.fixture(scope="session")
def logical() -> Shapes:
    """Return what gives the unpacked shape of every weight of a base."""
    return lambda base: {one.module: (one.out_features, one.in_features) for one in base.weights}


@pytest.fixture
def read_sparingly() -> Reader:
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


@pytest.fixture
def checked(
    tmp_path: Path, plain: Path, logical: Shapes, read_sparingly: Reader, said: Said
) -> Callable[..., tuple[str, str | None]]:
    """Return a check of a packed model: every shape, and nothing to say of a healthy adapter.

    It returns scheme and compute dtype.
    """

    def check(path: Path = tmp_path) -> tuple[str, str | None]:
        base = read_sparingly(path)
        assert logical(base) == logical(read_base(plain))
        assert said(path) == set()
        return base.scheme, base.compute_dtype

    return check


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
