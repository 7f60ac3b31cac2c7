"""What stands under several processes: DDP, FSDP2 or DeepSpeed's ZeRO, made by accelerate.

The recipe's `parallel` names one; a configuration that `accelerate launch` brings in its
environment goes over it, since it is what was asked for last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .errors import RefusedError
from .processes import Processes
from .recipe import Recipe
from .scaling import samples_a_step
from .sections.parallel import Engine

_PLAIN_OPTIMIZERS = frozenset({"adamw", "adamw-fused", "sgd"})
"""Optimizers that look at each value by itself, so that a part of a weight is enough."""


def engine_of(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Engine:
    """Return the engine that will be used."""
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        return "deepspeed"
    if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return "fsdp2"
    return recipe.parallel.engine


def check_engine(recipe: Recipe, processes: Processes, device: str) -> None:
    """Refuse an engine that can't carry the recipe here, before anything is loaded."""
    engine = engine_of(recipe)
    if engine == "ddp":
        return
    what = f"parallel.engine {engine}"
    optimizer = recipe.training.optimizer.name
    if optimizer not in _PLAIN_OPTIMIZERS:
        fact = f"optimizer {optimizer} needs whole weights, and it shards them"
        raise RefusedError(what, fact, f"use {', '.join(sorted(_PLAIN_OPTIMIZERS))}, or engine ddp")
    if recipe.adapter.init == "eva" or recipe.adapter.dtype == "fp16":
        fact = "does not go with adapter.init eva nor with adapter.dtype fp16"
        raise RefusedError(what, fact, "use engine ddp")
    if engine == "deepspeed" and recipe.training.mixed_precision in {"bf16", "fp16"}:
        fact = "casts the trained weights themselves under mixed precision"
        raise RefusedError(what, fact, "use training.mixed_precision none, or another engine")
    if recipe.base.quantization != "none":
        fact = f"a {recipe.base.quantization} base is no float weights that could be sharded"
        raise RefusedError(what, fact, "use engine ddp, or base.quantization none")
    if engine == "fsdp2":
        _check_fsdp2(what, processes, device)


def _check_fsdp2(what: str, processes: Processes, device: str) -> None:
    if device == "cpu":
        raise RefusedError(what, "accelerate shards on accelerators only", "use engine ddp here")
    if os.environ.get("FSDP_VERSION", "2") != "2":
        raise RefusedError(what, "accelerate's configuration says FSDP1", "set fsdp_version 2")
    if processes.count == 1:
        raise RefusedError(what, "there is one process", "start with torchrun, or use engine ddp")


def facts(recipe: Recipe, processes: Processes) -> dict[str, Any]:
    """Return what a checkpoint says of the processes that wrote it."""
    engine = engine_of(recipe)
    return {
        "count": processes.count,
        "samples_a_step": samples_a_step(recipe, processes.count),
        "engine": engine,
        "zero_stage": _stage(recipe) if engine == "deepspeed" else None,
    }


def misfit(recipe: Recipe, processes: Processes, before: Mapping[str, Any]) -> str | None:
    """Return why DeepSpeed can't take up the optimizer state of a checkpoint, None if it can.

    It reads its own parts alone, and those of as many processes. Everyone else reads the whole
    state that lies beside them.
    """
    now = facts(recipe, processes)
    if now["engine"] != "deepspeed":
        return None
    if before.get("engine") != "deepspeed":
        return "DeepSpeed takes up no state but its own"
    if any(before.get(key) != now[key] for key in ("count", "zero_stage")):
        was = f"{before.get('count')} processes under ZeRO {before.get('zero_stage')}"
        return f"it is of {was}, and DeepSpeed takes up no other"
    return None


def _stage(recipe: Recipe) -> int:
    """Return ZeRO's stage, as accelerate's launcher or the recipe says."""
    told = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
    own = recipe.parallel.zero_stage or 2
    return int(told) if engine_of(recipe, {}) != "deepspeed" and told.isdigit() else own


def engine_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's engine in the words of Transformers' TrainingArguments.

    Where accelerate's environment configures one, Transformers reads it there by itself.
    """
    parallel = recipe.parallel
    if parallel.engine == "ddp" or engine_of(recipe, {}) != engine_of(recipe):
        return {}
    if parallel.engine == "fsdp2":
        config = {"version": 2, "cpu_offload": parallel.cpu_offload}
        return {"fsdp": True, "fsdp_config": config | parallel.args}
    return {"deepspeed": _deepspeed(recipe)}


def _deepspeed(recipe: Recipe) -> dict[str, Any]:
    """Return DeepSpeed's configuration; "auto" is filled in by Transformers.

    Source: DeepSpeed's page on its configuration JSON, Transformers' on DeepSpeed.
    """
    parallel = recipe.parallel
    stage = parallel.zero_stage or 2
    zero: dict[str, Any] = {"stage": stage}
    if parallel.cpu_offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if stage == 3:  # noqa: PLR2004 - the stage that shards weights
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    config = {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1 << 30,
    }
    return config | parallel.args
