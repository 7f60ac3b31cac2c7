"""The optimizers a recipe can name, all made elsewhere, and the rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

from .errors import RefusedError
from .sections.optimizer import OptimizerName
from .sections.training import Training

Factory = tuple[str, str, Mapping[str, Any]]
"""Module, class, and the arguments that a recipe's own go over."""

_FACTORIES: Mapping[OptimizerName, Factory] = MappingProxyType(
    {
        "adamw": ("torch.optim", "AdamW", {}),
        "adamw-fused": ("torch.optim", "AdamW", {"fused": True}),
        "adamw-8bit": ("bitsandbytes.optim", "AdamW8bit", {}),
        "paged-adamw": ("bitsandbytes.optim", "PagedAdamW32bit", {}),
        "paged-adamw-8bit": ("bitsandbytes.optim", "PagedAdamW8bit", {}),
        "lion": ("lion_pytorch", "Lion", {}),
        "lion-8bit": ("bitsandbytes.optim", "Lion8bit", {}),
        # The class defaults to relative_step True, which refuses the rate a recipe always has.
        "adafactor": ("transformers", "Adafactor", {"relative_step": False}),
        "prodigy": ("prodigyopt", "Prodigy", {}),
        "prodigy-plus": ("prodigyplus", "ProdigyPlusScheduleFree", {}),
        "sgd": ("torch.optim", "SGD", {}),
        "schedule-free": ("schedulefree", "AdamWScheduleFree", {}),
        "schedule-free-sgd": ("schedulefree", "SGDScheduleFree", {}),
    }
)


def build_optimizer(training: Training, parameters: Sequence[Any]) -> Any:
    """Return the recipe's optimizer over ``parameters``, its arguments passed as written."""
    module, name, usual = _FACTORIES[training.optimizer.name]
    factory: Callable[..., Any] = getattr(import_module(module), name)
    try:
        return factory(parameters, lr=training.rate, **{**usual, **training.optimizer.args})
    except (TypeError, ValueError) as error:
        what = f"training.optimizer '{training.optimizer.name}'"
        raise RefusedError(what, str(error), "check training.optimizer.args") from error


def build_schedule(training: Training, optimizer: Any) -> Any:
    """Return the rate schedule; each is a closed formula of the step (torch's LambdaLR)."""
    from transformers import get_scheduler  # noqa: PLC0415 - needs torch
    from transformers.optimization import AdafactorSchedule  # noqa: PLC0415

    if training.optimizer.estimates_rate:
        # It asks the optimizer for its rate, which accelerate's wrapper does not pass on.
        return AdafactorSchedule(getattr(optimizer, "optimizer", optimizer))
    try:
        return get_scheduler(
            training.scheduler.replace("-", "_"),
            optimizer=optimizer,
            num_warmup_steps=training.warmup_steps,
            num_training_steps=training.last_step,
            scheduler_specific_kwargs=dict(training.scheduler_args),
        )
    except (TypeError, ValueError) as error:
        what = f"training.scheduler '{training.scheduler}'"
        raise RefusedError(what, str(error), "check training.scheduler_args") from error


def keep_state_precision(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """Give an optimizer's loaded state back the precision it was saved in, where that was fp32.

    torch casts all state of a half-precision weight to that precision when it is loaded
    (`Optimizer.load_state_dict`), also what an optimizer keeps in fp32 on purpose: a resumed
    training would not go on as it was.
    """
    import torch  # noqa: PLC0415 - only while a training is resumed

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for at, weight in enumerate(weights):
        state, before = optimizer.state.get(weight, {}), saved["state"].get(at, {})
        for key, value in before.items():
            loaded = state.get(key)
            if (
                isinstance(value, torch.Tensor)
                and isinstance(loaded, torch.Tensor)
                and value.dtype == torch.float32
                and loaded.dtype != value.dtype
            ):
                state[key] = value.to(loaded.device)
