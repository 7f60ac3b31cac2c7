"""The page itself: everything about one run in one HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from sentinel.errors import ConfigError
from sentinel.reports.charts.drawing import EXTRA, to_inline_svg
from sentinel.reports.charts.theme import (
    DARK,
    LIGHT,
    NARROW,
    RAMP,
    SHAPES,
    WIDE,
    css_variables,
    page_theme,
)
from sentinel.reports.picture.commands import undo_commands
from sentinel.reports.picture.figures import Figure, figures_of
from sentinel.reports.picture.findings import finding_stories
from sentinel.reports.picture.repairs import repair_stories
from sentinel.reports.picture.same_in_words import MOST_ROWS, TextTable
from sentinel.reports.picture.state import facts_of, state_of
from sentinel.reports.picture.told import Told
from sentinel.reports.timeline import Moment, story
from sentinel.reports.words import shown
from sentinel.rules.schema import Rule

if TYPE_CHECKING:
    import jinja2

GENERATOR = "sentinel report"
"""What the page calls its maker; by it a former report is known again."""

_FILES = Path(__file__).parent / "page_files"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with its two drawings, as SVG to be put into the page."""

    figure: Figure
    wide: str
    narrow: str


def report_page(
    run: Told,
    rules: Mapping[str, Rule],
    *,
    version: str,
    made_at: datetime,
    options: Sequence[str] = (),
) -> str:
    """Return the page. ``rules`` are those by id, whose pages explain the findings.

    ``options`` are what commands need to find the run's state (`--state DIR`). Raises ConfigError
    when the extra `report` is not installed.
    """
    environment = _environment()
    drawn = [_drawn(figure) for figure in figures_of(run)]
    heats = [one for one in drawn if one.figure.id.startswith("heat-")]
    script = _text("script.js")
    newest = run.newest
    page = environment.get_template("report.html").render(
        generator=GENERATOR,
        version=version,
        made_at=made_at,
        policy=_policy(script),
        name=shown(PurePath(newest.path).parent.name if newest else "") or run.run_id[:8],
        state=state_of(run),
        facts=list(facts_of(run)),
        figures={one.figure.id: one for one in drawn},
        heats=heats,
        findings=finding_stories(run, rules, options),
        repairs=repair_stories(run),
        undo=undo_commands(run),
        history=_history(run),
        shapes=SHAPES,
        steps=range(RAMP),
        style=_text("style.css"),
        light=css_variables(LIGHT),
        dark=css_variables(DARK),
        script=script,
    )
    return str(page)


def is_report(path: Path) -> bool:
    """Tell whether a file is a report of ours, by its beginning."""
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR}'.encode() in file.read(2048)


def _environment() -> jinja2.Environment:
    try:
        import jinja2  # noqa: PLC0415 - an extra, only needed when a page is made
    except ImportError:
        raise ConfigError(
            "report", fact="its template library is not installed", todo=f"run `{EXTRA}`"
        ) from None
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FILES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _drawn(figure: Figure) -> Drawn:
    wide, narrow = (
        to_inline_svg(figure.draw(page_theme(width)), f"{figure.id}-{width}", one_image=dense)
        for width, dense in ((WIDE, figure.is_dense), (NARROW, figure.is_dense))
    )
    return Drawn(figure, wide, narrow)


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return the content security policy: nothing is loaded, no script runs but the page's own."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


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
