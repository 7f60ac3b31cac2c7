"""The demo's last word: what was found, what was done about it, and what it saved."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from sentinel.daemon.journal import Judged
from sentinel.demo.show import DemoEnd, SceneEnd
from sentinel.repairs.plan import Plan
from sentinel.reports.words import STYLE_OF_LEVEL


def summary_table(end: DemoEnd) -> Table:
    """Return a row for each finding and for each scene's end.

    "Steps saved" counts against finding the fault at the end and starting again: the steps of
    the faulty attempt that were not trained in vain, and those kept by resuming.
    """
    table = Table(title="What happened", title_justify="left", header_style="bold")
    for heading in ("scene", "checkpoint", "verdict", "finding", "repair", "loss", "steps saved"):
        table.add_column(heading, overflow="fold")
    for scene_end in end.scenes:
        for row in _rows(scene_end):
            table.add_row(*row)
        table.add_section()
    return table


def _rows(end: SceneEnd) -> Iterator[tuple[str | Text, ...]]:
    name = end.scene.name
    plans = {
        attempt.attempt - 1: Plan.from_detail(attempt.plan)
        for attempt in end.attempts
        if attempt.plan is not None
    }
    for number in sorted({judged.attempt for judged in end.judged}):
        mine = [judged for judged in end.judged if judged.attempt == number]
        faulty = next((judged for judged in mine if judged.findings), None)
        if faulty is not None:
            plan = plans.get(number)
            repair = "none" if plan is None else _repair(plan)
            saved = "" if plan is None else str(_saved(end, faulty, plan))
            finding = ", ".join(found.rule for found in faulty.findings)
            yield (name, _place(faulty), _level(faulty), finding, repair, _loss(faulty), saved)
    if end.judged:
        last = end.judged[-1]
        done = "ended by itself" if end.code == 0 else f"exit code {end.code}"
        yield (name, _place(last), _level(last), "", done, _loss(last), "")


def _repair(plan: Plan) -> str:
    origin = "from the start" if plan.target is None else f"from step {plan.target_step}"
    precision = f" in {plan.precision}" if plan.precision else ""
    return f"resumed {origin}{precision}"


def _saved(end: SceneEnd, faulty: Judged, plan: Plan) -> int:
    return end.scene.steps - (faulty.step or 0) + (plan.target_step or 0)


def _place(judged: Judged) -> str:
    return f"attempt {judged.attempt}, {judged.path.name}"


def _level(judged: Judged) -> Text:
    return Text(judged.level, STYLE_OF_LEVEL[judged.level])


def _loss(judged: Judged) -> str:
    return "unknown" if judged.loss is None else f"{judged.loss:.3f}"
