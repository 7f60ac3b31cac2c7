"""The optimizers a recipe can name, all made elsewhere, and the rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .errors import RefusedError
from .recipe import Training

Factory = Callable[..., Any]


def build_optimizer(training: Training, parameters: Sequence[Any]) -> Any:
    """Return the recipe's optimizer over ``parameters``, its arguments passed as written."""
    factory = _FACTORIES[training.optimizer.name]
    try:
        return factory(parameters, lr=training.rate, **training.optimizer.args)
    except (TypeError, ValueError) as error:
        what = f"training.optimizer '{training.optimizer.name}'"
        raise RefusedError(what, str(error), "check training.optimizer.args") from error


def build_schedule(training: Training, optimizer: Any) -> Any:
    """Return the rate schedule; each is a closed formula of the step (torch's LambdaLR)."""
    from transformers import get_scheduler  # noqa: PLC0415
    from transformers.optimization import AdafactorSchedule  # noqa: PLC0415

    if training.optimizer.estimates_rate:
        # It asks the optimizer for its rate, which accelerate's wrapper does not pass on.
        return AdafactorSchedule(getattr(optimizer, "optimizer", optimizer))
    return get_scheduler(
        training.scheduler.replace("-", "_"),
        optimizer=optimizer,
        num_warmup_steps=training.warmup_steps,
        num_training_steps=training.steps,
    )


def _adamw(parameters: Sequence[Any], **kwargs: Any) -> Any:
    from torch.optim import AdamW  # noqa: PLC0415

    return AdamW(parameters, **kwargs)


def _adamw_fused(parameters: Sequence[Any], **kwargs: Any) -> Any:
    from torch.optim import AdamW  # noqa: PLC0415

    return AdamW(parameters, fused=True, **kwargs)


def _prodigy(parameters: Sequence[Any], **kwargs: Any) -> Any:
    from prodigyopt import Prodigy  # noqa: PLC0415

    return Prodigy(parameters, **kwargs)


def _prodigy_plus(parameters: Sequence[Any], **kwargs: Any) -> Any:
    from prodigyplus import ProdigyPlusScheduleFree  # noqa: PLC0415

    return ProdigyPlusScheduleFree(parameters, **kwargs)


def _adafactor(parameters: Sequence[Any], **kwargs: Any) -> Any:
    from transformers import Adafactor  # noqa: PLC0415

    # The class defaults to relative_step True, which refuses the rate a recipe always has.
    return Adafactor(parameters, **({"relative_step": False} | kwargs))


_FACTORIES: Mapping[str, Factory] = MappingProxyType(
    {
        "adamw": _adamw,
        "adamw-fused": _adamw_fused,
        "prodigy": _prodigy,
        "prodigy-plus": _prodigy_plus,
        "adafactor": _adafactor,
    }
)
