"""All runs: state, trainer, last step, verdict, age, and a line of the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from sentinel.reports.words import run_words, shown
from sentinel.ui.look import Look
from sentinel.ui.pages import PAGE_SIZE, Asked, Page, Pager, Part
from sentinel.ui.running import training_now
from sentinel.ui.spark import Spark, spark_of
from sentinel.verdict import LEVELS

PARAMETERS = ("verdict", "q", "sort")
SORTS: Mapping[str, str] = {
    "newest": "seen_last DESC, run_id",
    "worst": "gravity DESC, seen_last DESC, run_id",
    "longest": "checkpoints DESC, run_id",
}
BUCKETS = 48
"""Stretches of a run that its little picture shows."""

_RUNS = """
WITH judged AS (
    SELECT run_id,
           max(judged_at) AS judged_last,
           arg_max({verdict: verdict, reason: reason, step: step, seq: seq, trainer: trainer,
                    layout: layout, path: path}, (attempt, seq)) AS newest,
           count(*) AS checkpoints,
           count(*) FILTER (verdict IN ('faulty', 'unreadable')) AS bad,
           max(attempt) AS attempt
    FROM checkpoints
    GROUP BY run_id
),
happened AS (
    SELECT run_id, max(events.at) AS happened_last, max(attempt) AS attempt,
           arg_max(kind = 'outcome' AND detail NOT LIKE '%"result"%', events.at)
               FILTER (kind IN ('outcome', 'attempt', 'plan')) AS has_ended
    FROM events
    GROUP BY run_id
),
told AS (
    SELECT coalesce(judged.run_id, happened.run_id) AS run_id,
           newest, checkpoints, bad,
           greatest(judged.attempt, happened.attempt) AS attempts,
           greatest(judged_last, happened_last) AS seen_last,
           coalesce(has_ended, false) AS has_ended,
           coalesce(list_position(?, newest.verdict), 0) AS gravity
    FROM judged FULL JOIN happened USING (run_id)
)
SELECT *, count(*) OVER () AS total
FROM told
WHERE (? = '' OR newest.verdict = ?)
  AND (? = '' OR contains(lower(concat_ws(' ', run_id, newest.path, newest.trainer)), lower(?)))
ORDER BY _ORDER_
LIMIT ? OFFSET ?
"""
_SPARKS = """
WITH placed AS (
    SELECT run_id, verdict, losses,
           (row_number() OVER (PARTITION BY run_id ORDER BY attempt, seq) - 1) * ?
               // count(*) OVER (PARTITION BY run_id) AS place
    FROM checkpoints
    WHERE list_contains(?, run_id)
)
SELECT run_id, place::BIGINT AS place,
       avg(losses[-1]) FILTER (isfinite(losses[-1])) AS loss,
       max(list_position(?, verdict)) AS gravity
FROM placed
GROUP BY ALL
ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run, safe to show; ``level`` is "unknown" before its first checkpoint."""

    run_id: str
    name: str
    place: str
    state: str
    level: str
    reason: str
    trainer: str
    step: str
    checkpoints: int
    bad: int
    attempts: int
    seen_last: datetime | None
    spark: Spark


def runs_page(look: Look, asked: Asked) -> Page:
    """Return the page of all runs, the newest first."""
    order = SORTS[asked.choice("sort", SORTS, "newest")]
    verdict, text = asked.choice("verdict", LEVELS), asked["q"]
    found = look.ask(
        _RUNS.replace("_ORDER_", order),
        *(list(LEVELS), verdict, verdict, text, text, PAGE_SIZE, asked.offset),
    )
    sparks = _sparks(look, [str(row["run_id"]) for row in found])
    training = training_now(look.journal)
    lines = [_line(row, training, sparks) for row in found]
    pager = Pager.of(asked, len(lines), found[0]["total"] if found else 0)
    table = look.render("runs.html", runs=lines, pager=pager, asked=asked, log=shown(str(look.log)))
    controls = look.render("runs_filter.html", asked=asked, levels=LEVELS, sorts=SORTS)
    parts = (Part("controls", controls), Part("runs", table))
    return Page("Runs", "runs", parts, watches="*")


def _line(row: Mapping[str, Any], training: frozenset[str], sparks: Mapping[str, Spark]) -> RunLine:
    run_id, newest = str(row["run_id"]), row["newest"] or {}
    path = PurePath(str(newest.get("path") or ""))
    ended = "ended" if row["has_ended"] else ""
    step = newest.get("step")
    return RunLine(
        run_id=run_id,
        name=run_words(path) or run_id[:8],
        place=shown(str(path.parent)) if newest else "",
        state="training" if run_id in training else ended,
        level=shown(str(newest.get("verdict") or "unknown")),
        reason=shown(str(newest.get("reason") or "")),
        trainer=shown(str(newest.get("trainer") or newest.get("layout") or "unknown")),
        step="" if step is None else f"{step:,}",
        checkpoints=row["checkpoints"] or 0,
        bad=row["bad"] or 0,
        attempts=row["attempts"] or 0,
        seen_last=row["seen_last"],
        spark=sparks.get(run_id, spark_of((), ())),
    )


def _sparks(look: Look, run_ids: Sequence[str]) -> dict[str, Spark]:
    if not run_ids:
        return {}
    points: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in run_ids}
    for row in look.ask(_SPARKS, BUCKETS, list(run_ids), list(LEVELS)):
        points[str(row["run_id"])].append(row)
    return {
        run_id: spark_of(
            [row["loss"] for row in rows], [LEVELS[row["gravity"] - 1] for row in rows]
        )
        for run_id, rows in points.items()
    }
