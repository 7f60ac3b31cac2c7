"""Backups in OneTrainer's layout around weights and an optimizer that were really trained."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laying import lay
from onetrainer_facts import FACTS, expanded, over

from corpus.diffusers_writing import layers_of

WEIGHTS, OPTIMIZER = "lora/lora.safetensors", "optimizer/optimizer.pt"
ARGS, META = "onetrainer_config/args.json", "meta.json"
_CASE = FACTS["optimizers"]["prodigy_fp32"]


def backup(
    root: Path,
    model: Any,
    optimizer: Any,
    *,
    step: int,
    settings: Mapping[str, Any],
    epoch: int = 1,
) -> Path:
    """Write a backup: all files as OneTrainer wrote them, then those that were trained here."""
    torch = importlib.import_module("torch")
    path = (
        root / "backup" / f"2026-01-02_03-{step // 60:02d}-{step % 60:02d}-backup-{step}-{epoch}-0"
    )
    lay(expanded(_CASE["files"]), path)
    progress = {"epoch": epoch, "epoch_step": 0, "epoch_sample": 0, "global_step": step}
    _write_json(path / META, {"train_progress": progress})
    saved = json.loads((path / ARGS).read_text(encoding="utf-8"))
    _write_json(path / ARGS, over(saved, settings))
    safetensors = importlib.import_module("safetensors.torch")
    metadata = _CASE["files"][WEIGHTS]["metadata"]
    safetensors.save_file(_named(model), path / WEIGHTS, metadata)
    torch.save(optimizer.state_dict(), path / OPTIMIZER)
    return path


def _named(model: Any) -> dict[str, Any]:
    """A U-Net's adapter under OneTrainer's names, each module with its alpha."""
    torch = importlib.import_module("torch")
    tensors = {}
    for key, value in layers_of(model).items():
        module, side = key.removesuffix(".weight").rsplit(".", 1)
        name = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight"}.get(side, "dora_scale")
        tensors[f"unet.{module}.{name}"] = value
        tensors[f"unet.{module}.alpha"] = torch.tensor(8.0, dtype=value.dtype)
    return tensors


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
