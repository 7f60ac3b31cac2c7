"""The controls: the same planner and recipe, with a remedy that no diagnosis chose.

Each attempt trains to its end and is judged by all rules. Where the case's fault is found, what
was found wrong is taken away, as the quarantine does, and the next attempt begins where the planner
says, from the newest checkpoint that is good. Only the remedy differs: none for a plain restart,
one drawn from the catalogue's own for the random control.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcome import failing
from trainings import run

import sentinel
from sentinel.flow import Judgement
from sentinel.machine.device import device_of_machine
from sentinel.repairs.compose import compose
from sentinel.repairs.plan import START, Now, Plan, Start, make_plan
from sentinel.repairs.recipes import Recipe, load_recipes
from sentinel.rules.load import load_rules
from sentinel.verdict import Finding

Remedy = Mapping[str, object]
Draw = Callable[[], Remedy]


@dataclass(frozen=True)
class Training:
    """What is trained: its recipe file, output, base, the rules that name its fault."""

    file: Path
    out: Path
    base: Path
    wanted: frozenset[str]

    @property
    def command(self) -> tuple[str, ...]:
        """The user's command."""
        return (sys.executable, "-m", "sentinel_trainer.main", str(self.file))

    def beside(self, ending: str) -> Path:
        """Return a path beside the output; a learning rate in its name is no suffix."""
        return self.out.with_name(f"{self.out.name}.{ending}")


def plain() -> Remedy:
    """Return no remedy: the training is started again as it was."""
    return {}


def drawn(seed: int) -> Draw:
    """Return a draw from the catalogue's remedies, each kind once however many rules name it."""
    asked = (rule.remedy for rule in load_rules())
    kinds = sorted({json.dumps(one, sort_keys=True) for one in asked if one.get("resume")})
    chance = random.Random(seed)
    return lambda: json.loads(chance.choice(kinds))


def play(training: Training, draw: Draw, *, attempts: int, device: str) -> list[Remedy]:
    """Train until the fault is gone or the attempts are spent; return the remedies used."""
    recipe = next(known for known in load_recipes() if known.id == "sentinel-train")
    failures: Counter[str] = Counter()
    command, plan, used = training.command, None, []
    while True:
        log = training.beside(f"{len(used)}.log")
        run(tuple(command[1:]), log, device)
        judged = _judged(training)
        bad = failing(judged, training.wanted)
        if not bad or len(used) + 1 >= attempts:
            return used
        failures[(plan.target if plan else None) or START] += 1
        used.append(draw())
        plan = _plan(judged, bad, used[-1], recipe, failures=failures, before=plan)
        for one in bad:
            shutil.rmtree(one.checkpoint.path)
        if plan is None:
            return used
        place = training.beside(str(len(used)))
        composed = compose(recipe, training.command, plan, cwd=training.out.parent, place=place)
        composed.prepare()
        command = composed.command


def _judged(training: Training) -> Sequence[Judgement]:
    if not training.out.is_dir():
        return ()
    return sentinel.scan(training.out, base=training.base, settle_s=0)


def _plan(
    judged: Sequence[Judgement],
    bad: Sequence[Judgement],
    remedy: Remedy,
    recipe: Recipe,
    *,
    failures: Mapping[str, int],
    before: Plan | None,
) -> Plan | None:
    first = bad[0]
    settings = dict(first.checkpoint.settings)
    return make_plan(
        [Finding("drawn", "critical", "", remedy=remedy)],
        starts=[_start(one) for one in judged if one not in bad],
        failures=failures,
        faulty_step=first.checkpoint.step,
        now=Now(precision=settings.get("precision.adapter"), settings=settings, before=before),
        device=device_of_machine(),
        recipe=recipe,
    )


def _start(judged: Judgement) -> Start:
    """Return a place to begin from, as the planner of `sentinel run` sees it."""
    checkpoint = judged.checkpoint
    asking = {
        found.rule: found.remedy["resume"]
        for found in judged.verdict.findings
        if found.scope == "content" and "weights" in found.parts and "resume" in found.remedy
    }
    return Start(
        checkpoint.path.name,
        checkpoint.path,
        checkpoint.step,
        judged.verdict.level,
        good=True,
        doubts=tuple(asking),
        spoilt=tuple(rule for rule, asked in asking.items() if asked.get("begin") == "before"),
        stale_state=any(asked.get("optimizer") == "drop" for asked in asking.values()),
    )
