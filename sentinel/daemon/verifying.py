"""Whether a repair helped: the checkpoints after a resume against the rule that asked for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sentinel.daemon.journal import Judged
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Effect, Precision
from sentinel.repairs.wishes import same, shown

Result = Literal["fixed", "worse", "not fixed", "no effect"]

CLEAN_UNTIL_FIXED = 2
"""So many checkpoints in a row without the finding are needed before a repair counts."""

WORSE = 1.1
"""A loss this many times the one before the repair is called worse."""

NOISY = 3
"""So many last losses must be worse: that of one step of a diffusion model tells little."""


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
    effect: Effect,
    loss_before: float | None,
    ended: bool,
) -> Proof | None:
    """Return the proof once there is enough to tell, None while there is not.

    ``after`` are the checkpoints of the attempt that the plan started, ``effect`` names the
    settings that show a precision, ``ended`` says that no more come.
    The losses are compared only then.
    One that could not be read proves nothing, one that is faulty for another reason no success.
    """
    readable = [judged for judged in after if judged.level != "unreadable"]
    if not readable:
        return None
    newest = readable[-1]
    losses = [judged.loss for judged in readable if _finite(judged.loss)]
    numbers = (loss_before, losses[-1] if losses else newest.loss)
    refuted = _refuted(plan, readable, effect)
    if refuted is not None:
        return Proof(*refuted, *numbers)
    if len(readable) < CLEAN_UNTIL_FIXED and not ended:
        return None
    many = f"{len(readable)} checkpoint{'s' if len(readable) > 1 else ''}"
    fact = f"{', '.join(plan.rules)} is gone from {many} up to {_place(_newest_step(readable))}"
    # A loss a few steps after a resume tells little; at the end it is what the repair was for.
    if ended and _finite(loss_before) and losses:
        fact += f", loss {loss_before:.3f} -> {losses[-1]:.3f}"
        if min(filter(None, losses[-NOISY:]), default=0.0) > WORSE * (loss_before or 0.0):
            return Proof("worse", fact, *numbers)
    return Proof("fixed", fact, *numbers)


def _refuted(plan: Plan, readable: Sequence[Judged], effect: Effect) -> tuple[Result, str] | None:
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


def _without_effect(plan: Plan, judged: Judged, effect: Effect) -> str | None:
    """Return what the newest checkpoint says against the change; what it tells nothing of, not."""
    for name, wanted in ((effect.precision, plan.precision), (effect.compute, plan.compute)):
        seen = judged.settings.get(name) if name else None
        if wanted is not None and seen is not None and _falls_short(str(seen), wanted):
            told = f"the trainer was told to use {wanted}"
            return f"{told}, but {_place(judged)} says {name} is {seen}"
    for name, value in plan.settings.items():
        seen = judged.settings.get(name)
        if seen is not None and not same(value, seen):
            told = f"the trainer was told {name} {shown(value)}"
            return f"{told}, but {_place(judged)} says it is {shown(seen)}"
    return None


def _falls_short(seen: str, wanted: Precision) -> bool:
    """Tell whether a precision is less than was asked for; fp32 has all that bf16 has."""
    return seen != wanted and seen not in {"fp32", "no"}


def _newest_step(judged: Sequence[Judged]) -> Judged:
    """Return the newest that has a step: a last save may lie in a directory without one."""
    return next((one for one in reversed(judged) if one.step is not None), judged[-1])


def _place(judged: Judged) -> str:
    return f"step {judged.step}" if judged.step is not None else f"'{judged.path.name}'"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
