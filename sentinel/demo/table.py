"""The demo's last word: what was found, what was done about it, and what it saved."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAVY
from rich.table import Table
from rich.text import Text

from sentinel.daemon.journal import Judged
from sentinel.demo.show import DemoEnd, SceneEnd
from sentinel.repairs.plan import Plan
from sentinel.reports.words import STYLE_OF_LEVEL


def summary_table(end: DemoEnd) -> Table:
    """Return a row for each fault with its repair, and one for each scene's end.

    "Steps saved" counts against finding the fault at the end and starting again: the steps of
    the faulty attempt that were not trained in vain, and those kept by resuming.
    """
    table = Table(box=SIMPLE_HEAVY, header_style="bold", pad_edge=False)
    for heading in ("scene", "try", "step", "verdict", "finding", "repair"):
        table.add_column(heading, overflow="fold")
    for heading in ("loss", "steps saved"):
        table.add_column(heading, justify="right")
    for number, scene_end in enumerate(end.scenes, start=1):
        for row in _rows(scene_end):
            table.add_row(str(number), *row)
        table.add_section()
    return table


def _rows(end: SceneEnd) -> Iterator[tuple[str | Text, ...]]:
    plans = {
        attempt.attempt - 1: Plan.from_detail(attempt.plan)
        for attempt in end.attempts
        if attempt.plan is not None
    }
    for number, plan in sorted(plans.items()):
        mine = [judged for judged in end.judged if judged.attempt == number]
        faulty = next((judged for judged in mine if judged.level == "faulty"), None)
        if faulty is not None:
            finding = faulty.findings[0].rule
            saved = str(_saved(end, faulty, plan))
            yield (*_place(faulty), finding, _repair(plan), _loss(faulty), saved)
    if end.judged:
        last = end.judged[-1]
        done = "ran to its end" if end.code == 0 else f"exit code {end.code}"
        findings = ", ".join(found.rule for found in last.findings)
        yield (*_place(last), findings, done, _loss(last), "")


def _repair(plan: Plan) -> str:
    origin = "begun anew" if plan.target is None else f"resumed from step {plan.target_step}"
    precision = f" in {plan.precision}" if plan.precision else ""
    return f"{origin}{precision}"


def _saved(end: SceneEnd, faulty: Judged, plan: Plan) -> int:
    return end.scene.steps - (faulty.step or 0) + (plan.target_step or 0)


def _place(judged: Judged) -> tuple[str, str, Text]:
    step = "?" if judged.step is None else str(judged.step)
    return (str(judged.attempt), step, Text(judged.level, STYLE_OF_LEVEL[judged.level]))


def _loss(judged: Judged) -> str:
    return "unknown" if judged.loss is None else f"{judged.loss:.3f}"
