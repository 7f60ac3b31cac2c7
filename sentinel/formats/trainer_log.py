"""`trainer_state.json`: step, epoch, logged numbers, and the updates they prove.

Written by Transformers' Trainer (transformers/trainer_callback.py, `TrainerState`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sentinel.checkpoint import Metric
from sentinel.formats.scalars import as_count, as_finite, as_number

NAME = "trainer_state.json"
METRIC_NAMES = ("loss", "grad_norm", "learning_rate", "eval_loss")


@dataclass(frozen=True, slots=True)
class TrainerLog:
    """What the trainer wrote about its own progress up to ``step``."""

    step: int | None
    epoch: float | None
    metrics: tuple[Metric, ...]
    updates_done: int | None


def trainer_log_of(content: Mapping[str, object]) -> TrainerLog:
    """Return the log of a `trainer_state.json`; entries that make no sense are left out."""
    step = as_count(content.get("global_step"))
    history = content.get("log_history")
    logged = history if isinstance(history, list) else ()
    entries = [entry for entry in logged if isinstance(entry, dict)]
    metrics = tuple(
        Metric(at, name, value)
        for at, entry in ((as_count(entry.get("step")), entry) for entry in entries)
        if at is not None and (step is None or at <= step)
        for name, value in ((name, as_number(entry.get(name))) for name in METRIC_NAMES)
        if value is not None
    )
    return TrainerLog(step, as_finite(content.get("epoch")), metrics, updates_done(step, metrics))


def updates_done(step: int | None, metrics: tuple[Metric, ...]) -> int | None:
    """Return a lower bound of the optimizer steps that ran with a learning rate above zero.

    Steps count from the first logged one that had a learning rate above zero and a finite
    gradient, without that one: older Trainers log the rate of the step to come, newer ones that
    of the step just done. Later steps logged with a rate of zero or a gradient that is not
    finite (a step that loss scaling skips) do not count. A log whose only rates are zero proves
    0 updates; no log, or one that proves nothing, is None.
    """
    rates = {metric.step: metric.value for metric in metrics if metric.name == "learning_rate"}
    gradients = {metric.step: metric.value for metric in metrics if metric.name == "grad_norm"}
    if step is None or not rates:
        return None
    if all(rate == 0.0 for rate in rates.values()):
        return 0

    def is_update(at: int) -> bool:
        return rates[at] > 0.0 and math.isfinite(gradients.get(at, 0.0))

    first = min((at for at in rates if is_update(at)), default=None)
    if first is None:
        return None
    idle = sum(1 for at in rates if at > first and not is_update(at))
    return max(0, step - first - idle) or None
