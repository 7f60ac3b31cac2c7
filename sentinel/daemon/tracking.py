"""From what the daemon tells to the points of a tracker: a verdict's numbers, and what was done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.checkpoint import path_text
from sentinel.daemon.journal import Journal
from sentinel.daemon.recording import Outcome
from sentinel.health.rows import EventRow
from sentinel.metrics.tally import name_of
from sentinel.stats.measure import Measured
from sentinel.trackers.point import ATTEMPT, LAST_EVENT, VERDICT, Point
from sentinel.verdict import LEVELS

_TOLD = frozenset({"plan", "outcome"})


class Tracking:
    """An observer that puts points."""

    def __init__(self, put: Callable[[Point], None], journal: Journal) -> None:
        self._put = put
        self._journal = journal
        self._names: dict[str, str] = {}
        self._last: dict[str, Point] = {}

    def judged(self, outcome: Outcome, _written_s: float | None) -> None:
        """Put a verdict with its numbers; without a step it stands at its number in the run."""
        row, verdict = outcome.row, outcome.judgement.verdict
        values = {
            VERDICT: float(LEVELS.index(verdict.level)),
            "findings": float(len(verdict.findings)),
            ATTEMPT: float(row.attempt),
            **numbers_of(outcome.judgement.measured),
        }
        said = [
            f"**{found.rule}** ({found.severity}): {found.message}" for found in verdict.findings
        ]
        rules = dict.fromkeys(found.rule for found in verdict.findings)
        point = Point(
            run_id=row.run_id,
            run=self._name(row.run_id),
            attempt=row.attempt,
            step=row.seq if row.step is None else row.step,
            at_s=row.judged_at.timestamp(),
            place=Path(row.path).parent,
            values=values,
            tags={
                VERDICT: verdict.level,
                "rules": ", ".join(rules),
                "checkpoint": path_text(row.path),
                "run": row.run_id,
            },
            text="\n\n".join([f"{verdict.level}: `{path_text(Path(row.path).name)}`", *said])
            if said
            else "",
        )
        self._last[row.run_id] = point
        self._put(point)

    def told(self, event: EventRow) -> None:
        """Put what was planned and what came of it, at the last step that was judged."""
        last = self._last.get(event.run_id)
        if last is None or event.kind not in _TOLD:
            return
        self._put(
            Point(
                run_id=event.run_id,
                run=last.run,
                attempt=last.attempt,
                step=last.step,
                at_s=event.at.timestamp(),
                place=last.place,
                tags={LAST_EVENT: event.message},
                text=f"{event.kind}: {event.message}",
            )
        )

    def _name(self, run_id: str) -> str:
        if run_id not in self._names:
            self._names = {key: name_of(roots[0]) for key, roots in self._journal.runs().items()}
        return self._names.get(run_id, run_id)


def numbers_of(measured: Measured | None) -> Mapping[str, float]:
    """Return the numbers of a whole checkpoint: counts, the largest value, norms.

    ``norm`` is the Frobenius norm of all finite values together, ``effect_norm`` that of
    scale·B·A over all pairs; one that is not finite is left out, as the counts say why.
    """
    if measured is None:
        return {}
    tensors = measured.tensors
    numel = _sum(tensors, "numel")
    told = {
        "nan_values": _sum(tensors, "nan_count"),
        "inf_values": _sum(tensors, "inf_count"),
        "zero_share": _sum(tensors, "zero_count") / numel if numel else math.nan,
        "abs_max": _number(pc.max(tensors["abs_max"])),
        "norm": _norm(tensors, "l2"),
        "effect_norm": _norm(measured.pairs, "norm"),
    }
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _sum(table: pa.Table, column: str) -> float:
    return _number(pc.sum(table[column]))


def _norm(table: pa.Table, column: str) -> float:
    """Return the norm of a column; NaN where one of its numbers is not known."""
    column_of = table[column]
    if column_of.null_count:
        return math.nan
    return math.sqrt(_number(pc.sum(pc.multiply(column_of, column_of))))


def _number(value: pa.Scalar) -> float:
    number = value.as_py()
    return math.nan if number is None else float(number)
