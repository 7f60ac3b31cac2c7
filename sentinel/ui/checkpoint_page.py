"""One checkpoint: its verdict, what was found, its magnitudes, its tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from sentinel.health.earlier import earlier
from sentinel.health.rows import CheckpointRow
from sentinel.reports.picture.content import name_of
from sentinel.reports.picture.findings import finding_stories
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.verdicts import place_words, plan_of
from sentinel.reports.words import shown
from sentinel.sizes import size_words
from sentinel.ui.exponents import exponents_figure
from sentinel.ui.look import Look
from sentinel.ui.pages import Asked, NotThereError, Page, Pager, Part
from sentinel.ui.run_page import RULES_AT
from sentinel.ui.telling import RUN_ID, telling
from sentinel.ui.tensor_lines import COLUMNS, PARAMETERS, STATES, tensor_lines

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARAMETERS", "checkpoint_page"]

TENSORS = "tensors"
_ID = re.compile(r"[0-9a-f]{32}")
_BESIDE = """
WITH placed AS (
    SELECT checkpoint_id, lag(checkpoint_id) OVER way AS before,
           lead(checkpoint_id) OVER way AS after
    FROM checkpoints WHERE run_id = ?
    WINDOW way AS (ORDER BY attempt, seq)
)
SELECT before, after FROM placed WHERE checkpoint_id = ?
"""


def checkpoint_page(look: Look, asked: Asked, run_id: str, checkpoint_id: str) -> Page:
    """Return the page of a checkpoint; raises NotThereError for one the log does not know."""
    also = [checkpoint_id] if RUN_ID.fullmatch(run_id) and _ID.fullmatch(checkpoint_id) else []
    known = earlier(look.log, run_id, also).get(checkpoint_id)
    if known is None:
        raise NotThereError(
            f"checkpoint '{shown(checkpoint_id)}'",
            fact="is not in the health log of this run",
            todo="see the run's list of checkpoints",
        )
    tensors = Part(TENSORS, _tensors(look, asked, known.tensors))
    if asked.only == TENSORS:
        return Page("", "runs", (tensors,), watches=run_id)
    run = telling(look, run_id, also=also).run
    row = run.by_id[checkpoint_id]
    beside = look.ask(_BESIDE, run_id, checkpoint_id, run_id=run_id)[0]
    figure = exponents_figure(known.tensors)
    stories = finding_stories(_only(run, checkpoint_id), look.rules, look.options)
    head = look.render(
        "checkpoint_head.html",
        row=row,
        run_id=run_id,
        run_name=name_of(run),
        name=shown(PurePath(row.path).name),
        place=place_words(row),
        reason=shown(row.reason or ""),
        facts=list(_facts(run, row)),
        before=beside["before"],
        after=beside["after"],
    )
    findings = look.render(
        "checkpoint_findings.html",
        findings=stories,
        plan=_plan(run, row, {story.rule for story in stories}),
        rules_at=RULES_AT,
    )
    magnitudes = look.render("exponents.html", one=look.drawings.draw(figure) if figure else None)
    settings = look.render("settings.html", settings=_settings(row))
    parts = (
        Part("head", head),
        Part("findings", findings),
        Part("magnitudes", magnitudes),
        tensors,
        Part("settings", settings),
    )
    title = f"{row.verdict.capitalize()}: {shown(PurePath(row.path).name)}"
    return Page(title, "runs", parts, watches=run_id)


def _tensors(look: Look, asked: Asked, tensors: pa.Table) -> str:
    lines = tensor_lines(tensors, asked)
    return look.render(
        "tensors.html",
        table=lines,
        columns=COLUMNS,
        states=STATES,
        pager=Pager.of(asked, len(lines.lines), lines.total),
        asked=asked,
    )


def _only(run: Told, checkpoint_id: str) -> Told:
    """Return the run without the findings of its other checkpoints."""
    events = tuple(
        event
        for event in run.events
        if event.kind != "finding" or event.checkpoint_id == checkpoint_id
    )
    return replace(run, events=events)


def _plan(run: Told, row: CheckpointRow, rules: set[str]) -> str:
    """Return what was planned about a checkpoint's findings, "" when nothing was."""
    plan = plan_of(run, row.attempt)
    asked = plan.detail.get("rules") if plan else None
    if plan is None or not isinstance(asked, list) or rules.isdisjoint(map(str, asked)):
        return ""
    return shown(plan.message)


def _facts(run: Told, row: CheckpointRow) -> Iterator[tuple[str, str]]:
    yield "attempt", str(row.attempt)
    yield "step", "unknown" if row.step is None else f"{row.step:,}"
    if row.epoch is not None:
        yield "epoch", f"{row.epoch:.4g}"
    if row.updates_done is not None:
        yield "updates done", f"{row.updates_done:,}"
    if row.losses:
        yield "loss", f"{row.losses[-1]:.4g}"
    yield "trainer", shown(row.trainer or "unknown")
    yield "layout", shown(row.layout)
    yield "size", f"{size_words(row.size_bytes)}, {row.tensor_count:,} tensors"
    yield "dtypes", shown(", ".join(row.dtypes)) or "unknown"
    yield "usable", shown(", ".join(row.usable)) or "nothing"
    yield "judged", f"{row.judged_at:%Y-%m-%d %H:%M:%S} UTC"
    if row.measure_s is not None:
        yield "measured in", f"{row.measure_s:.2g} s"
    where = "moved to quarantine" if row.checkpoint_id in run.moved else ""
    pinned = "a copy was pinned" if row.checkpoint_id in run.pinned else ""
    kept = ", ".join(word for word in (where, pinned) if word)
    if kept:
        yield "kept", kept
    yield "written to", shown(row.path)


def _settings(row: CheckpointRow) -> list[tuple[str, str]]:
    return [(shown(name), shown(_words(value))) for name, value in sorted(row.settings.items())]


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
