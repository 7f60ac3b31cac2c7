"""`sentinel_manifest.json`: what a checkpoint is, written last, so that it also says "whole"."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .device import Device
from .engines import facts as engine_facts
from .processes import Processes
from .recipe import Recipe

NAME = "sentinel_manifest.json"
SCHEMA = 1

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Facts:
    """What stays the same over one start of the trainer.

    ``data`` names the rows that are trained on; ``resumed_from`` is null for a start at step 0,
    ``initialised_from`` the adapter that `--init-lora` named. ``processes`` are all that train.
    """

    recipe: Recipe
    device: Device
    fingerprint: str | None
    data: Mapping[str, Any]
    resumed_from: Mapping[str, Any] | None
    initialised_from: str | None
    processes: Processes


def write_manifest(
    directory: Path, facts: Facts, *, step: int, epoch: float | None, updates_done: int | None
) -> None:
    """Describe the checkpoint in ``directory``, with the sizes of the files it holds now."""
    recipe = facts.recipe
    content = {
        "schema": SCHEMA,
        "trainer": "sentinel-train",
        "trainer_version": __version__,
        "step": step,
        "epoch": epoch,
        "updates_done": updates_done,
        "recipe": recipe.model_dump(mode="json"),
        "base": {
            "path": recipe.base.model,
            "fingerprint": facts.fingerprint,
            "quantization": recipe.base.quantization,
            "double_quant": recipe.base.double_quant,
            "compute_dtype": recipe.base.compute_dtype,
        },
        "adapter": recipe.adapter.model_dump(
            mode="json", include={"method", "dtype", "rank", "alpha"}
        ),
        "optimizer": {
            "name": recipe.training.optimizer.name,
            "learning_rate": recipe.training.rate,
            "args": recipe.training.optimizer.args,
        },
        "data": dict(facts.data),
        "processes": engine_facts(recipe, facts.processes),
        "versions": _versions(),
        "device": facts.device.as_dict(),
        "resumed_from": facts.resumed_from,
        "initialised_from": facts.initialised_from,
        "files": {
            path.relative_to(directory).as_posix(): {"size_bytes": path.stat().st_size}
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        },
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (directory / NAME).write_text(text + "\n", encoding="utf-8")


def _versions() -> dict[str, str | None]:
    """Return the versions that decide how numbers come out; None for what is not there."""
    import torch  # noqa: PLC0415 - read from the module: the package's metadata has no CUDA

    found: dict[str, str | None] = {name: _version(name) for name in _PACKAGES}
    return found | {"cuda": torch.version.cuda, "python": platform.python_version()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
