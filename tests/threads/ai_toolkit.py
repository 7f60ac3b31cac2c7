"""LoRAs of a small Flux, saved as ai-toolkit does."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laying import facts_of

from corpus.diffusers_writing import adapt, layers_of, tiny_flux
from corpus.models import seed_torch

if TYPE_CHECKING:
    import numpy as np

_FILES: Mapping[str, Any] = facts_of("ai_toolkit")["runs"]["flux"]["files"]
METADATA: Mapping[str, str] = _FILES["cat/cat.safetensors"]["metadata"]
"""What ai-toolkit wrote in the header of a save of its own."""


def flux(rng: np.random.Generator) -> Any:
    """A small Flux under a fresh LoRA."""
    seed_torch(rng)
    model = tiny_flux()
    adapt(model, ["attn.to_q", "attn.to_v"])
    return model


def header(step: int) -> dict[str, str]:
    """A save's metadata at a step."""
    return {**METADATA, "training_info": f'{{"step": {step}, "epoch": 0}}'}


def save(folder: Path, model: Any, *, step: int) -> Path:
    """Save in bf16 beside the configuration that ai-toolkit copies there at its start."""
    torch = importlib.import_module("torch")
    save_file = importlib.import_module("safetensors.torch").save_file
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(_FILES["cat/config.yaml"]["text"], encoding="utf-8")
    layers = layers_of(model)
    tensors = {f"transformer.{key}": value.to(torch.bfloat16) for key, value in layers.items()}
    path = folder / f"cat_{step:09d}.safetensors"
    save_file(tensors, path, header(step))
    return path
