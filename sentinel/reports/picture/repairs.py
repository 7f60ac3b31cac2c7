"""The repairs of a run: why, what was changed, what it cost, and what was proved of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sentinel.health.rows import EventRow
from sentinel.reports.facts import counted
from sentinel.reports.picture.told import STARTED, Told
from sentinel.reports.picture.verdicts import plan_of, proof_of
from sentinel.reports.words import shown


@dataclass(frozen=True, slots=True)
class RepairStory:
    """One repair, safe to show: ``facts`` are names and values in order.

    ``result`` is what was proved: `fixed`, `worse`, `not fixed`, `no effect`, or `unproved`.
    """

    attempt: int
    rules: str
    reason: str
    result: str
    proof: str
    facts: tuple[tuple[str, str], ...]
    diff: str
    command: str


def repair_stories(run: Told) -> list[RepairStory]:
    """Return the repairs in order: a plan, and the attempt that it began."""
    stories = []
    for before, attempt in pairwise(run.attempts):
        plan = plan_of(run, before)
        if plan is not None:
            stories.append(_story(run, plan, before, attempt))
    return stories


def _story(run: Told, plan: EventRow, before: int, attempt: int) -> RepairStory:
    proof = proof_of(run, attempt)
    asked = plan.detail.get("rules")
    names = [str(rule) for rule in asked] if isinstance(asked, list) else [plan.rule or ""]
    ours = [one for one in run.events if one.attempt == attempt]
    diffs = [one.detail["diff"] for one in ours if isinstance(one.detail.get("diff"), str)]
    starts = [one.message for one in ours if one.kind == "attempt" and STARTED in one.message]
    return RepairStory(
        attempt=attempt,
        rules=shown(", ".join(names)),
        reason=shown(plan.message),
        result=shown(str(proof.detail["result"])) if proof else "unproved",
        proof=shown(proof.message) if proof else "too few checkpoints yet to tell",
        facts=tuple(_facts(run, plan, proof, before, attempt)),
        diff="\n".join(shown(line) for text in diffs for line in str(text).splitlines()),
        command=shown(starts[-1].partition(STARTED)[2]) if starts else "",
    )


def _facts(
    run: Told, plan: EventRow, proof: EventRow | None, before: int, attempt: int
) -> list[tuple[str, str]]:
    detail = plan.detail
    target = detail.get("target_step")
    kept = isinstance(target, int) and target > 0
    facts = [("begun from", f"step {target}" if kept else "the beginning")]
    if kept:
        facts.append(("saved", f"{counted(int(str(target)), 'step')} of training kept"))
    lost = detail.get("steps_lost")
    if isinstance(lost, int):
        facts.append(("lost", counted(lost, "step")))
    for name, words in (("precision", "trained in"), ("compute", "computes in")):
        if detail.get(name):
            facts.append((words, str(detail[name])))
    settings = detail.get("settings")
    if isinstance(settings, dict) and settings:
        facts.append(("settings", ", ".join(f"{key} = {value}" for key, value in settings.items())))
    facts.append(("optimizer state", "left out" if detail.get("optimizer") == "drop" else "kept"))
    moved = [row for row in run.rows if row.attempt == before and row.checkpoint_id in run.moved]
    if moved:
        facts.append(("quarantined", counted(len(moved), "checkpoint")))
    after = [row for row in run.rows if row.attempt == attempt]
    good = sum(row.verdict == "healthy" for row in after)
    facts.append(("since then", f"{counted(len(after), 'checkpoint')}, {good} healthy"))
    facts += _losses(proof)
    return [(name, shown(value)) for name, value in facts]


def _losses(proof: EventRow | None) -> Sequence[tuple[str, str]]:
    if proof is None:
        return ()
    values = [proof.detail.get(name) for name in ("loss_before", "loss_after")]
    if not all(isinstance(value, float | int) and math.isfinite(value) for value in values):
        return ()
    return (("loss", " to ".join(f"{value:.4g}" for value in values)),)
