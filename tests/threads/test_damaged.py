"""Threads in which a good file was damaged on a disk or on its way, and still loads."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train
from threads.finding import healthy, said, scan, silent

if TYPE_CHECKING:
    import numpy as np

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("peft")


def test_safetensors_safetensors_220(tmp_path: Path, rng: np.random.Generator) -> None:
    """A file went wrong on its way, its header is right, and it loads: some values are NaN. The
    tensor that they are in is named, which is more than its reader says."""
    seed_torch(rng)
    model = adapted(FAMILIES["lora"])
    train(model)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "copied")
    flip(tmp_path / "copied" / "adapter_model.safetensors", at=-400, count=64)
    [whole], [copied] = scan(tmp_path / "whole"), scan(tmp_path / "copied")

    read = importlib.import_module("safetensors.torch").load_file
    assert len(read(tmp_path / "copied" / "adapter_model.safetensors")) == 4
    said(
        copied.verdict,
        "nan-values",
        "faulty",
        "1 of 4 tensors hold NaN in this checkpoint, 16 in all",
        "the first in 'base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight' (F32)",
        "a damaged copy does: fetch or copy the file again",
    )
    silent(whole.verdict, "nan-values")


def test_vllm_project_vllm_53537(tmp_path: Path, rng: np.random.Generator) -> None:
    """One shard of a model is corrupt behind a valid header, and is served without a word. The
    tensor and its shard are named, the shards around it are not blamed."""
    seed_torch(rng)
    model = tiny_llama(layers=2)
    for name in ("whole", "copied"):
        model.save_pretrained(tmp_path / name, max_shard_size="20KB")
    shards = sorted((tmp_path / "copied").glob("*.safetensors"))
    assert len(shards) > 2
    flip(shards[1], at=-1024, count=512)
    [whole], [copied] = scan(tmp_path / "whole"), scan(tmp_path / "copied")

    finding = said(
        copied.verdict,
        "nan-values",
        "faulty",
        "1 of 21 tensors hold NaN in this checkpoint, 128 in all",
        "a damaged copy does: fetch or copy the file again",
    )
    [tensor] = [one for one in copied.checkpoint.tensors if one.name == finding.tensors[0]]
    assert tensor.member == shards[1].name
    healthy(whole.verdict)


def flip(path: Path, *, at: int, count: int) -> None:
    """Set all bits of some bytes, counted from the end."""
    raw = bytearray(path.read_bytes())
    start = len(raw) + at
    raw[start : start + count] = b"\xff" * count
    path.write_bytes(raw)
