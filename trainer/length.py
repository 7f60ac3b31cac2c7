"""How long a training is: the steps that a recipe's epochs come to on its data.

The recipe in use then has both, and so has the manifest; what a checkpoint hands on to a later
start is what was asked for, the epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from .errors import RefusedError
from .recipe import Recipe
from .sections.training import Training


def steps_of(training: Training, samples: int, processes: int) -> int:
    """Return the optimizer steps of the recipe's passes over ``samples`` rows, at least one.

    As Transformers counts: every process gets as many batches, the last batch and the last
    accumulation of a pass may be short.
    """
    batches = ceil(ceil(samples / training.batch_size) / processes)
    return max(1, ceil((training.epochs or 0) * ceil(batches / training.gradient_accumulation)))


def with_steps(recipe: Recipe, samples: int, processes: int) -> tuple[Recipe, list[str]]:
    """Return the recipe with the steps of its epochs, and what to say of it.

    A recipe that counts in steps is returned as it is.
    """
    training = recipe.training
    if training.epochs is None:
        return recipe, []
    steps = steps_of(training, samples, processes)
    if training.warmup_steps > steps:
        fact = f"warmup_steps {training.warmup_steps} is more than the {steps} steps of the epochs"
        raise RefusedError("training", fact, "give fewer, or more epochs")
    known = recipe.model_copy(update={"training": training.model_copy(update={"steps": steps})})
    return known, [f"training.epochs {training.epochs:g}: {steps} steps over {samples:,} samples"]


def as_asked(recipe: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a manifest's recipe without the steps that its epochs came to."""
    training = (recipe or {}).get("training")
    if recipe is None or not isinstance(training, dict) or training.get("epochs") is None:
        return recipe
    return {**recipe, "training": {**training, "steps": None}}


def nothing_left(recipe: Recipe, step: int) -> str | None:
    """Return what to say when ``step`` is the last one already; None while steps are unknown."""
    steps = recipe.training.steps
    if steps is None or step < steps:
        return None
    return f"nothing to do: step {step} of {steps} is done"
