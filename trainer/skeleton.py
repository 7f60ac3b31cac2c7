"""The model without its values: what it will train, known before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from .errors import RefusedError
from .peft_config import peft_config
from .recipe import Recipe
from .sections.optimizer import OPTIMIZERS

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_STATE_BYTES = 68 << 10
"""What a checkpoint holds beside weights and optimizer: configurations, log, random state."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What is known of a model from its configuration; ``commit`` is the hub's."""

    trained: int
    commit: str | None


def build_skeleton(recipe: Recipe) -> Skeleton:
    """Return the number of weights that the recipe's adapter trains on the recipe's base.

    Both are built on torch's meta device, which holds shapes only. Raises RefusedError for a
    base without a configuration that Transformers knows, and for targets that it does not have.
    """
    config = _config(recipe)
    kind: Any = AutoModelForCausalLM
    if recipe.task == "sequence-classification":
        kind = AutoModelForSequenceClassification
        config.num_labels = recipe.num_labels
    with torch.device("meta"):
        model = kind.from_config(config)
        try:
            adapted = get_peft_model(model, peft_config(recipe, plain=True))
        except ValueError as error:
            raise RefusedError("adapter", str(error).splitlines()[0]) from error
    trained = sum(value.numel() for value in adapted.parameters() if value.requires_grad)
    return Skeleton(trained, getattr(config, "_commit_hash", None))


def checkpoint_bytes(recipe: Recipe, trained: int) -> int:
    """Return about how large a checkpoint of ``trained`` weights will be.

    Weights in the precision they are trained in, and the optimizer's values for each.
    """
    kind = OPTIMIZERS[recipe.training.optimizer.name]
    weight = _BYTES["fp32" if recipe.adapter.autocast_adapter_dtype else recipe.adapter.dtype]
    moment = weight if kind.moment_bytes is None else kind.moment_bytes
    return round(trained * (weight + kind.moments * moment)) + _STATE_BYTES


def _config(recipe: Recipe) -> Any:
    try:
        return AutoConfig.from_pretrained(recipe.base.model, revision=recipe.base.revision)
    except (OSError, ValueError) as error:
        fact = f"the model can't be loaded ({' '.join(str(error).split())})"
        raise RefusedError(f"base.model '{recipe.base.model}'", fact) from error
