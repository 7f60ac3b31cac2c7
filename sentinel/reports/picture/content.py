"""What a page about one run says, as values for its templates: the same in a file and live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from sentinel.reports.charts.theme import RAMP, SHAPES
from sentinel.reports.picture.commands import undo_commands
from sentinel.reports.picture.drawings import Drawn, drawn
from sentinel.reports.picture.figures import Figure, figures_of
from sentinel.reports.picture.findings import finding_stories
from sentinel.reports.picture.repairs import repair_stories
from sentinel.reports.picture.same_in_words import MOST_ROWS, TextTable
from sentinel.reports.picture.state import facts_of, state_of
from sentinel.reports.picture.told import Told
from sentinel.reports.timeline import Moment, story
from sentinel.reports.words import run_words, shown
from sentinel.rules.rule import Rule

SECTIONS = ("verdicts", "loss", "findings", "repairs", "modules", "ranges", "run")
"""The sections in the order of the page; each has a template in `page_files/sections/`."""


def content_of(
    run: Told,
    rules: Mapping[str, Rule],
    options: Sequence[str],
    *,
    draw: Callable[[Figure], Drawn] = drawn,
) -> dict[str, object]:
    """Return what the sections' templates read.

    ``rules`` are those by id, ``options`` what commands need to find the run's state
    (`--state DIR`), ``draw`` makes the drawings.
    """
    figures = [draw(figure) for figure in figures_of(run)]
    return {
        "name": name_of(run),
        "state": state_of(run),
        "facts": list(facts_of(run)),
        "figures": {one.figure.id: one for one in figures},
        "heats": [one for one in figures if one.figure.id.startswith("heat-")],
        "findings": finding_stories(run, rules, options),
        "repairs": repair_stories(run),
        "undo": undo_commands(run),
        "history": _history(run),
        "shapes": SHAPES,
        "steps": range(RAMP),
    }


def name_of(run: Told) -> str:
    """Return what people call a run: the directory it writes to, else the beginning of its id."""
    newest = run.newest
    return (run_words(PurePath(newest.path)) if newest else "") or run.run_id[:8]


def _history(run: Told) -> TextTable:
    moments = story(run.rows, run.events)
    kept = moments
    if len(moments) > MOST_ROWS:
        telling = [moment for moment in moments if moment.word != "healthy" and _is_telling(moment)]
        kept = telling or moments
        kept = list(dict.fromkeys(kept[: MOST_ROWS // 2] + kept[-MOST_ROWS // 2 :]))
    note = f"{len(kept)} of {len(moments):,} entries." if len(kept) < len(moments) else ""
    return TextTable(
        ("time (UTC)", "attempt", "what", "step", "says"),
        tuple(
            (
                f"{moment.at:%Y-%m-%d %H:%M:%S}",
                str(moment.attempt),
                shown(moment.word),
                "" if moment.step is None else str(moment.step),
                shown(moment.says),
            )
            for moment in kept
        ),
        note,
    )


def _is_telling(moment: Moment) -> bool:
    return not moment.says.startswith("pinned ")
