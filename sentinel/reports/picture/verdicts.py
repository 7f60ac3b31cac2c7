"""The strip of verdicts: which marks stand where, and the ways back between attempts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from sentinel.health.rows import CheckpointRow, EventRow
from sentinel.reports.charts.strip import Rollback, StripMark
from sentinel.reports.picture.thinning import gravest
from sentinel.reports.picture.told import Told
from sentinel.reports.words import shown

MOST_ATTEMPTS = 12
"""Rows of the strip; of a run with more attempts the newest are drawn."""

_MARK_PX = 11
_BESIDE_PX = 110


def strip_marks(run: Told, *, width: int) -> list[StripMark]:
    """Return the marks that have room in ``width`` pixels; each stands for the gravest near it."""
    places = max(8, (width - _BESIDE_PX) // _MARK_PX)
    drawn = set(run.attempts[-MOST_ATTEMPTS:])
    near: dict[tuple[int, int], list[CheckpointRow]] = {}
    for row in run.rows:
        if row.attempt not in drawn:
            continue
        place = run.step_of[row.checkpoint_id] * places // (run.last_step + 1)
        near.setdefault((row.attempt, place), []).append(row)
    return [_mark(run, rows) for rows in near.values()]


def rollbacks(run: Told) -> list[Rollback]:
    """Return the ways back: of each attempt that a plan or a parent began, from the one before."""
    ways = []
    drawn = run.attempts[-MOST_ATTEMPTS:]
    for before, attempt in pairwise(drawn):
        ours = [row for row in run.rows if row.attempt == attempt]
        plan = plan_of(run, before)
        parent = run.by_id.get(ours[0].parent or "") if ours else None
        if parent is None and plan is None:
            continue
        last = [row for row in run.rows if row.attempt == before]
        begin = run.step_of[parent.checkpoint_id] if parent else _target_step(plan)
        end = max((run.step_of[row.checkpoint_id] for row in last), default=begin)
        how = _how(run, plan, attempt)
        says = f"Attempt {attempt} went back from step {end} to step {begin}: {how}"
        ways.append(Rollback(before, end, attempt, begin, how, says))
    return ways


def plan_of(run: Told, attempt: int) -> EventRow | None:
    """Return the plan that an attempt ended with, None when it ended without one."""
    plans = [one for one in run.events if one.kind == "plan" and one.attempt == attempt]
    return plans[-1] if plans else None


def proof_of(run: Told, attempt: int) -> EventRow | None:
    """Return what was proved of the repair that began an attempt, None when nothing was."""
    proofs = [
        event
        for event in run.events
        if event.kind == "outcome" and event.attempt == attempt and "result" in event.detail
    ]
    return proofs[-1] if proofs else None


def place_words(row: CheckpointRow) -> str:
    """Return where a checkpoint stands in words."""
    if row.step is not None:
        return f"step {row.step}"
    return f"checkpoint {row.seq}, step unknown"


def _mark(run: Told, rows: Sequence[CheckpointRow]) -> StripMark:
    worst = gravest(rows)
    said = f"Attempt {worst.attempt}, {place_words(worst)}: {worst.verdict}"
    if worst.reason:
        said += f"; {shown(worst.reason)}"
    moved = any(row.checkpoint_id in run.moved for row in rows)
    pinned = any(row.checkpoint_id in run.pinned for row in rows)
    said += "; moved to quarantine" if moved else ""
    said += "; pinned" if pinned else ""
    if len(rows) > 1:
        said += f" (the gravest of {len(rows)} checkpoints here)"
    step = run.step_of[worst.checkpoint_id]
    return StripMark(worst.attempt, step, worst.verdict, said, is_moved=moved, is_pinned=pinned)


def _target_step(plan: EventRow | None) -> int:
    step = plan.detail.get("target_step") if plan else None
    return step if isinstance(step, int) else 0


def _how(run: Told, plan: EventRow | None, attempt: int) -> str:
    precision = plan.detail.get("precision") if plan else None
    proof = proof_of(run, attempt)
    words = [f"in {precision}" if precision else "again"]
    words += [str(proof.detail["result"])] if proof else []
    return shown(", ".join(words))
