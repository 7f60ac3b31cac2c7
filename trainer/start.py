"""Where a training starts: at step 0, from another adapter, or from a checkpoint.

On a resume three sources speak. `--set` and the recipe file win over the checkpoint's own
recipe; what they leave out is inherited from it, except for what names a place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import RefusedError
from .length import as_asked
from .manifest import NAME
from .recipe import Recipe
from .recipe_file import Settings, flatten, one_length, overlay
from .sections.adapter import changes_base

OptimizerState = Literal["keep", "drop"]

_NEEDED = ("adapter_model.safetensors", "trainer_state.json")
_STATE = ("optimizer.pt", "scheduler.pt")
_OWN_PLACES = ("output_dir", "base.model")
_OWN_HERE = ("output_dir", "parallel")
"""What belongs to this start's machine: never inherited."""
_SAME_ADAPTER = (
    "task",
    "num_labels",
    "adapter.method",
    "adapter.rank",
    "adapter.alpha",
    "adapter.target_modules",
    "adapter.modules_to_save",
    "adapter.args",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint to resume from, as far as its JSON files tell.

    ``updates_done``, ``recipe`` and ``fingerprint`` are None in a checkpoint without manifest,
    which another Transformers Trainer may have written.
    """

    path: Path
    step: int
    updates_done: int | None
    recipe: Mapping[str, Any] | None
    fingerprint: str | None
    has_optimizer: bool
    data: Mapping[str, Any] | None = None
    processes: Mapping[str, Any] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint says of itself, or refuse one that can't be resumed from."""
    what = f"checkpoint '{path}'"
    for name in _NEEDED:
        if not (path / name).is_file():
            raise RefusedError(what, f"{name} is missing", "name one whole checkpoint-N directory")
    state = _json(path / "trainer_state.json", what)
    manifest = _json(path / NAME, what) if (path / NAME).is_file() else {}
    step = state.get("global_step")
    if not isinstance(step, int):
        raise RefusedError(what, "trainer_state.json names no global_step")
    return Checkpoint(
        path=path.resolve(),
        step=step,
        updates_done=manifest.get("updates_done"),
        recipe=as_asked(manifest.get("recipe")),
        fingerprint=manifest.get("base", {}).get("fingerprint"),
        data=manifest.get("data"),
        processes=manifest.get("processes"),
        has_optimizer=all((path / name).is_file() for name in _STATE),
    )


def inherit(settings: Settings, checkpoint: Checkpoint) -> Settings:
    """Return the settings with the checkpoint's recipe below them.

    An optimizer's arguments and rate are inherited only by the same optimizer, steps or epochs
    only where the settings name neither.
    """
    if checkpoint.recipe is None:
        return settings
    below = {key: value for key, value in checkpoint.recipe.items() if key not in _OWN_HERE}
    name = flatten(settings).get("training.optimizer.name")
    before = flatten(below)
    if name is not None and name != before.get("training.optimizer.name"):
        below = overlay(below, {"training": {"learning_rate": None, "optimizer": {"args": {}}}})
    return overlay(one_length(below, settings), settings)


def refuse_other_adapter(recipe: Recipe, checkpoint: Checkpoint) -> None:
    """Refuse a resume whose adapter is not built as the checkpoint's is."""
    what = f"resume from '{checkpoint.path}'"
    now, before = _values(recipe), flatten(checkpoint.recipe or {})
    for key in _SAME_ADAPTER:
        if key in before and before[key] != now[key]:
            fact = f"{key} is {before[key]!r} there and {now[key]!r} in the recipe"
            raise RefusedError(what, fact, "make them equal, or start anew without --resume")


def refuse_other_beginning(recipe: Recipe, directory: Path) -> None:
    """Refuse weights that belong to another base than the recipe's initialisation leaves.

    PEFT notes in `adapter_config.json` how an adapter began; one that began as a part of the
    base (PiSSA, OLoRA, LoftQ) is right only on what that left of it.
    """
    file, what = directory / "adapter_config.json", f"adapter '{directory}'"
    if not file.is_file():
        return
    noted = _json(file, what).get("init_lora_weights", True)
    before = noted if isinstance(noted, str) else "default"
    now = recipe.adapter.init
    if before != now and (changes_base(before) or changes_base(now)):
        fact = f"adapter.init is {before!r} there and {now!r} in the recipe"
        raise RefusedError(what, fact, "make them equal: one of them changes the base's weights")


def refuse_other_base(recipe: Recipe, checkpoint: Checkpoint, fingerprint: str | None) -> None:
    """Refuse a resume on other base weights; a fingerprint that is not known refuses nothing."""
    what = f"resume from '{checkpoint.path}'"
    if None not in (fingerprint, checkpoint.fingerprint) and fingerprint != checkpoint.fingerprint:
        fact = f"base.model '{recipe.base.model}' is not the base it was trained on"
        raise RefusedError(what, fact, "name that base, or use --init-lora if this is meant")


def choose_optimizer_state(
    recipe: Recipe, checkpoint: Checkpoint, asked: OptimizerState | None
) -> tuple[OptimizerState, str]:
    """Return whether the saved optimizer state is loaded, and the reason."""
    before = flatten(checkpoint.recipe or {})
    name = before.get("training.optimizer.name", recipe.training.optimizer.name)
    same_optimizer = name == recipe.training.optimizer.name
    if asked == "keep" and not (checkpoint.has_optimizer and same_optimizer):
        fact = "the checkpoint has no optimizer state" if same_optimizer else f"it is of {name}"
        raise RefusedError("--resume-optimizer keep", fact, "use --resume-optimizer drop")
    if asked is not None:
        return asked, "asked for"
    if not checkpoint.has_optimizer:
        return "drop", "the checkpoint has none"
    if not same_optimizer:
        return "drop", f"it is of {name}, the recipe says {recipe.training.optimizer.name}"
    if before.get("adapter.dtype", recipe.adapter.dtype) != recipe.adapter.dtype:
        return "drop", f"it was made in {before['adapter.dtype']}"
    return "keep", "same optimizer and precision"


def describe_data(checkpoint: Checkpoint, now: Mapping[str, Any]) -> list[str]:
    """Say, as one line, that the rows are not those the checkpoint was trained on."""
    before = checkpoint.data
    if not before or before.get("digest") == now["digest"]:
        return []
    fact = f"{before.get('samples')} rows then, {now['samples']} now"
    return [f"data: not those of the checkpoint ({fact}); their order begins anew\n"]


def changed_optimizer_settings(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the optimizer's settings that differ from those its saved state was made with.

    Keys are names in a torch parameter group ("lr", "eps", ...).
    """
    before, now = flatten(checkpoint.recipe or {}), _values(recipe)
    rate, args = "training.learning_rate", "training.optimizer.args"
    changed = {
        key: value
        for key, value in now[args].items()
        if args in before and before[args].get(key) != value
    }
    if rate in before and before[rate] != now[rate] and recipe.training.rate is not None:
        changed["lr"] = recipe.training.rate
    return changed


def _values(recipe: Recipe) -> dict[str, Any]:
    return flatten(recipe.model_dump(mode="json"))


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RefusedError(what, f"{path.name} can't be read ({error})") from error
    if not isinstance(content, dict):
        raise RefusedError(what, f"{path.name} is not a JSON object")
    return content
