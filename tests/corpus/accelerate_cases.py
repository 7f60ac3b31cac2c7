"""What accelerate's `save_state` writes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official
from corpus.case import Case, Truth
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, train, trainable

if TYPE_CHECKING:
    import numpy as np


def _state(
    place: Path,
    rng: np.random.Generator,
    *,
    adapter: bool = False,
    models: int = 1,
    **options: object,
) -> Path:
    """Save models with their optimizers, schedulers and random states."""
    torch = seed_torch(rng)
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    for _ in range(models):
        model = adapted(FAMILIES["lora"]) if adapter else tiny_llama()
        own = torch.optim.AdamW(trainable(model), lr=1e-2)
        schedule = torch.optim.lr_scheduler.ConstantLR(own)
        model, own, schedule = accelerator.prepare(model, own, schedule)
        train(model, own)
    path = place / "step_30"
    accelerator.save_state(str(path), **options)
    return path


_TRUTH: Mapping[str, Any] = MappingProxyType(
    {
        "layout": "accelerate-state",
        "trainer": "accelerate",
        "step": 30,
        "complete": True,
        "usable": ("weights", "optimizer", "state"),
    }
)
_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "writer": "accelerate",
        "needs": ("accelerate", "transformers"),
        "read": official.in_file("model.safetensors", official.safetensors),
    }
)
_WHOLE = Truth(**_TRUTH, roles={"other": 12}, optimizer_parameters=12)

CASES: tuple[Case, ...] = (
    Case(id="accelerate/whole", write=_state, truth=_WHOLE, **_BASE),
    Case(
        id="accelerate/two-models",
        write=partial(_state, models=2),
        truth=replace(_WHOLE, optimizer_parameters=24),
        **_BASE,
    ),
    Case(
        id="accelerate/pickled",
        write=partial(_state, safe_serialization=False),
        truth=_WHOLE,
        writer="accelerate",
        needs=("accelerate", "transformers"),
        read=official.in_file("pytorch_model.bin", official.torch_file),
    ),
    Case(
        id="accelerate/adapter-and-base",
        write=partial(_state, adapter=True),
        truth=Truth(
            **_TRUTH,
            roles={"lora_up": 2, "lora_down": 2, "base": 12},
            family="lora",
            modules=FAMILIES["lora"].modules,
            pairs=frozenset({(4, None, 1.0)}),
            idle=False,
            optimizer_parameters=4,
        ),
        writer="accelerate",
        needs=("accelerate", "transformers", "peft"),
        read=official.in_file("model.safetensors", official.safetensors),
    ),
)
