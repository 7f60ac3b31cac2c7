"""The same training on another number of processes: as many samples a step as before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .recipe import Recipe
from .recipe_file import Settings, flatten

_OWN = ("training.gradient_accumulation", "training.batch_size")


def samples_a_step(recipe: Recipe, count: int) -> int:
    """Return how many samples all processes together take for one optimizer step."""
    return recipe.training.batch_size * recipe.training.gradient_accumulation * count


def rescaled(
    recipe: Recipe, before: Mapping[str, Any], count: int, given: Settings
) -> tuple[Recipe, list[str]]:
    """Return the recipe for ``count`` processes that go on where others were, and what to say.

    ``before`` is the manifest's `processes`. Gradient accumulation makes up for processes that
    came or went, unless `--set` names it or the batch size: then what was asked for wins.
    """
    was, samples = before.get("count"), before.get("samples_a_step")
    if was == count or not isinstance(was, int) or not isinstance(samples, int):
        return recipe, []
    now = samples_a_step(recipe, count)
    said = f"processes: {count} (the checkpoint had {was})"
    if now == samples:
        return recipe, [f"{said}, {now} samples a step as before"]
    changed = f"{said}, {now} samples a step instead of {samples}"
    if any(key in flatten(given) for key in _OWN):
        return recipe, [f"{changed} (--set wins)"]
    size = recipe.training.batch_size * count
    if samples % size:
        return recipe, [f"{changed}: they take a multiple of {size}"]
    accumulation = samples // size
    training = recipe.training.model_copy(update={"gradient_accumulation": accumulation})
    kept = f"training.gradient_accumulation {accumulation} keeps {samples} samples a step"
    return recipe.model_copy(update={"training": training}), [f"{said}, {kept}"]
