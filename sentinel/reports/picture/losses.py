"""The loss: what the trainer logged, and what happened to the run meanwhile."""

from __future__ import annotations

import math

from sentinel.health.rows import LOSS, CheckpointRow
from sentinel.reports.charts.loss import LossMark, LossPoint
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.verdicts import rollbacks
from sentinel.reports.words import shown

MOST_POINTS = 400
"""Points of an attempt's curve; of more every n-th is drawn, and each that is not finite."""

_MOST_MARKS = 8


def loss_points(run: Told) -> list[LossPoint]:
    """Return the losses of every attempt by step, each step once.

    They are what each row keeps since the checkpoint before; of a log that keeps none, the last
    one before each checkpoint.
    """
    known: dict[tuple[int, int], float | None] = {}
    for row in run.rows:
        for step, loss in zip(row.loss_steps, row.losses, strict=False):
            known[row.attempt, step] = _finite(loss)
    if not known and run.knows_steps:
        for row in run.rows:
            if LOSS in row.settings and row.step is not None:
                known[row.attempt, row.step] = _finite(row.settings[LOSS])
    points = [LossPoint(attempt, step, loss) for (attempt, step), loss in sorted(known.items())]
    return [point for attempt in run.attempts for point in _thinned(points, attempt)]


def loss_marks(run: Told) -> list[LossMark]:
    """Return the first fault of each attempt, and where repairs began, by step."""
    marks = []
    for attempt in run.attempts:
        bad = [row for row in run.rows if row.attempt == attempt and row.verdict == "faulty"]
        if bad:
            step = run.step_of[bad[0].checkpoint_id]
            rule = shown(_gravest_rule(run, bad[0]))
            says = f"Fault at step {step} of attempt {attempt}: {rule}"
            marks.append(LossMark(step, "fault", rule, says))
    marks += [
        LossMark(way.to_step, "repair", f"attempt {way.to_attempt} {way.how}", way.says)
        for way in rollbacks(run)
    ]
    return marks[:_MOST_MARKS]


def _gravest_rule(run: Told, row: CheckpointRow) -> str:
    """Return the rule whose sentence is the checkpoint's reason."""
    ours = [one for one in run.events if one.checkpoint_id == row.checkpoint_id and one.rule]
    named = [one.rule for one in ours if one.message == row.reason]
    return next((rule for rule in named if rule), row.verdict)


def _thinned(points: list[LossPoint], attempt: int) -> list[LossPoint]:
    ours = [point for point in points if point.attempt == attempt]
    every = -(-len(ours) // MOST_POINTS) or 1
    last = len(ours) - 1
    return [
        point
        for number, point in enumerate(ours)
        if number % every == 0 or number == last or (point.loss is None and number % 7 == 0)
    ]


def _finite(value: object) -> float | None:
    number = float(value) if isinstance(value, int | float) else math.nan
    return number if math.isfinite(number) else None
