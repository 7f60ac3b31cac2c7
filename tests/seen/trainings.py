"""Short real runs of Transformers' Trainer over a Llama of two layers, saved twice."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import training
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama

if TYPE_CHECKING:
    import numpy as np

HALF, END = 4, 8
"""The steps at which a run saves."""


def lora(rng: np.random.Generator, *, layers: int = 2, **options: object) -> Any:
    """A fresh LoRA of rank 4 and alpha 8 over q_proj and v_proj."""
    seed_torch(rng)
    return adapted(FAMILIES["lora"], tiny_llama(layers=layers), **options)


def classifier(rng: np.random.Generator) -> Any:
    """A fresh LoRA under a head of two classes, which PEFT trains and saves whole."""
    seed_torch(rng)
    peft = importlib.import_module("peft")
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS"
    )
    return peft.get_peft_model(tiny_llama(head="SequenceClassification"), config)


def run(model: Any, root: Path, **options: Any) -> Path:
    """Train and return the directory of the checkpoints, which the options may place elsewhere."""
    given = {"max_steps": END, "save_steps": HALF, "learning_rate": 1e-3, **options}
    training.run(model, root, **given)
    return root


def begun(model: Any, root: Path, **options: Any) -> Path:
    """Train the first half alone."""
    return run(model, root, max_steps=HALF, **options)


def gone_on(model: Any, root: Path, **options: Any) -> Path:
    """Save a second checkpoint of the same run, trained with other options from what is there."""
    return run(model, root, save_steps=END, **options)
