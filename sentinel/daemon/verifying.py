"""Whether a repair helped: the checkpoints after a resume against the rule that asked for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sentinel.daemon.journal import Judged
from sentinel.repairs.plan import Plan

Result = Literal["fixed", "worse", "not fixed", "no effect"]

CLEAN_UNTIL_FIXED = 2
"""So many checkpoints in a row without the finding are needed before a repair counts."""

WORSE = 1.1
"""A loss this many times the one before the repair is called worse."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a repair, with the numbers that show it; losses are None when unknown."""

    result: Result
    message: str
    loss_before: float | None
    loss_after: float | None


def verify(
    plan: Plan,
    after: Sequence[Judged],
    *,
    effect: Mapping[str, str],
    loss_before: float | None,
    ended: bool,
) -> Proof | None:
    """Return the proof once there is enough to tell, None while there is not.

    ``after`` are the checkpoints of the attempt that the plan started, ``effect`` maps what the
    plan changed ("precision") to the setting that shows it, ``ended`` says that no more come.
    The losses are compared only then.
    One that could not be read proves nothing, one that is faulty for another reason no success.
    """
    readable = [judged for judged in after if judged.level != "unreadable"]
    if not readable:
        return None
    newest = readable[-1]
    numbers = (loss_before, newest.loss)
    refuted = _refuted(plan, readable, effect)
    if refuted is not None:
        return Proof(*refuted, *numbers)
    if len(readable) < CLEAN_UNTIL_FIXED and not ended:
        return None
    many = f"{len(readable)} checkpoint{'s' if len(readable) > 1 else ''}"
    fact = f"{', '.join(plan.rules)} is gone from {many} up to {_place(newest)}"
    # A loss a few steps after a resume tells little; at the end it is what the repair was for.
    if ended and _finite(loss_before) and _finite(newest.loss):
        fact += f", loss {loss_before:.3f} -> {newest.loss:.3f}"
        if (newest.loss or 0.0) > WORSE * (loss_before or 0.0):
            return Proof("worse", fact, *numbers)
    return Proof("fixed", fact, *numbers)


def _refuted(
    plan: Plan, readable: Sequence[Judged], effect: Mapping[str, str]
) -> tuple[Result, str] | None:
    """Return why the repair did not help, None while nothing speaks against it."""
    missing = _without_effect(plan, readable[-1], effect)
    if missing is not None:
        return "no effect", missing
    rules = ", ".join(plan.rules)
    for judged in readable:
        if {found.rule for found in judged.findings} & set(plan.rules):
            return "not fixed", f"{rules} is back at {_place(judged)}"
    for judged in readable:
        if judged.level == "faulty":
            others = ", ".join(dict.fromkeys(found.rule for found in judged.findings))
            return "worse", f"{rules} is gone, but {_place(judged)} shows {others}"
    return None


def _without_effect(plan: Plan, judged: Judged, effect: Mapping[str, str]) -> str | None:
    setting = effect.get("precision")
    if plan.precision is None or setting is None:
        return None
    seen = judged.settings.get(setting)
    if seen is None or seen == plan.precision:
        return None
    return (
        f"the trainer was told to use {plan.precision}, but {_place(judged)} says {setting} is"
        f" {seen}"
    )


def _place(judged: Judged) -> str:
    return f"step {judged.step}" if judged.step is not None else f"'{judged.path.name}'"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
