"""From the journal's facts to a plan: what the run has now, whence and where it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sentinel.daemon.journal import Judged
from sentinel.errors import RepairError
from sentinel.formats.settings import Setting
from sentinel.machine.device import Device, device_from_settings, device_of_machine
from sentinel.repairs.asking import Asked, fresh_root
from sentinel.repairs.compose import copy_of, unheard
from sentinel.repairs.invocation import take_apart
from sentinel.repairs.plan import Now, Plan, Start, make_plan
from sentinel.repairs.recipes import Precision, Recipe
from sentinel.verdict import Finding

_PRECISIONS: Mapping[object, Precision] = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}
_NO_AUTOCAST = "no"


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for one user's command, whose trainer the recipe knows."""

    recipe: Recipe
    command: tuple[str, ...] = ()
    cwd: Path = field(default_factory=Path)
    roots: tuple[Path, ...] = ()
    asked: Asked = field(default_factory=Asked)

    def plan(
        self,
        findings: Sequence[Finding],
        *,
        faulty: Sequence[Judged],
        starts: Sequence[Judged],
        failures: Mapping[str, int],
        before: Plan | None,
        number: int,
        begun: bool = True,
    ) -> Plan | None:
        """Return how to go on after some faulty checkpoints, None when no way is left.

        ``before`` is the plan that began the attempt, ``number`` the next attempt's; ``begun``
        says that there was one.
        """
        plan = make_plan(
            findings,
            starts=[_start(judged) for judged in starts],
            failures=failures,
            faulty_step=max((j.step for j in faulty if j.step is not None), default=None),
            now=replace(self._now(faulty, before), begun=begun),
            device=_device(faulty),
            recipe=self.recipe,
        )
        return None if plan is None else self.placed(plan, number)

    def placed(self, plan: Plan, number: int) -> Plan:
        """Return a plan with its fresh directory, where this trainer wants one.

        What the command gives sentinel no hold on is said in its reason.
        """
        plan = replace(plan, number=number, output=None, copy=None)
        try:
            invocation = take_apart(self.recipe, self.command, self.cwd)
        except RepairError as error:
            return replace(plan, reason=f"{plan.reason}; {error}")
        deaf = unheard(invocation, plan)
        if deaf:
            plan = replace(plan, reason=f"{plan.reason}; {deaf}")
        if self.recipe.resume.into == "same":
            return plan
        root = fresh_root(self.asked.output or self.roots[0])
        place = root / str(number)
        while os.path.lexists(place):
            number += 1
            place = root / str(number)
        plan = replace(plan, output=str(place))
        copied = copy_of(invocation, plan)
        return replace(plan, copy=str(place / copied.within)) if copied else plan

    def _now(self, faulty: Sequence[Judged], before: Plan | None) -> Now:
        """Return what the run has: what its checkpoints say, else what was asked for."""
        settings: dict[str, Setting] = {**self.asked.settings}
        settings |= before.settings if before else {}
        for judged in faulty:
            settings |= {
                name: value
                for name, value in judged.settings.items()
                if isinstance(value, str | int | float | bool)
            }
        effect = self.recipe.effect
        return Now(
            precision=_precision(settings, effect.precision),
            compute=_precision(settings, effect.compute),
            settings=settings,
            before=before,
        )


def _precision(settings: Mapping[str, Setting], name: str | None) -> Precision | None:
    seen = settings.get(name) if name else None
    return "fp32" if seen == _NO_AUTOCAST else _PRECISIONS.get(seen)


def _device(faulty: Sequence[Judged]) -> Device:
    told = (device_from_settings(judged.settings) for judged in reversed(faulty))
    return next((device for device in told if device is not None), None) or device_of_machine()


def _start(judged: Judged) -> Start:
    return Start(
        checkpoint_id=judged.checkpoint_id,
        path=judged.path,
        step=judged.step,
        level=judged.level,
        good=judged.target,
        doubts=judged.doubts,
        spoilt=tuple(found.rule for found in judged.findings if _spoils(found)),
        stale_state=any(_drops(found) for found in judged.findings),
    )


def _drops(finding: Finding) -> bool:
    return _resume(finding).get("optimizer") == "drop"


def _spoils(finding: Finding) -> bool:
    return finding.scope == "content" and _resume(finding).get("begin") == "before"


def _resume(finding: Finding) -> Mapping[str, object]:
    resume = finding.remedy.get("resume")
    return resume if isinstance(resume, Mapping) else {}
