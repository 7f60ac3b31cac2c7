"""One run: the report's charts and sentences, live, and its checkpoints."""

from __future__ import annotations

from typing import Any

from sentinel.reports.facts import counted
from sentinel.reports.picture.content import SECTIONS, content_of
from sentinel.reports.words import shown
from sentinel.ui.checkpoint_lines import checkpoint_lines
from sentinel.ui.look import Look
from sentinel.ui.pages import Asked, Page, Pager, Part
from sentinel.ui.running import training_now
from sentinel.ui.telling import telling
from sentinel.verdict import LEVELS

PARAMETERS = ("verdict",)
RULES_AT = "/rules/"
CHECKPOINTS = "checkpoints"


def run_page(look: Look, asked: Asked, run_id: str) -> Page:
    """Return the page of a run; raises NotThereError for one the log does not know."""
    if asked.only == CHECKPOINTS:
        part = Part(CHECKPOINTS, _checkpoints(look, asked, run_id))
        return Page("", "runs", (part,), watches=run_id)
    told = telling(look, run_id)
    content = content_of(told.run, look.rules, look.options, draw=look.drawings.draw)
    content |= {"rules_at": RULES_AT, "sections": SECTIONS, "run_id": run_id}
    left_out = ""
    if told.is_thinned:
        left_out = (
            f"This run has {counted(told.count, 'checkpoint')}: charts, findings and counts on this"
            f" page are of {len(told.run.rows):,} of them, of each stretch the gravest. The table"
            " of checkpoints has them all."
        )
    head = look.render(
        "run_head.html",
        **content,
        left_out=left_out,
        is_training=run_id in training_now(look.journal),
    )
    sections = {
        name: Part(name, look.render(f"sections/{name}.html", **content)) for name in SECTIONS
    }
    checkpoints = Part(CHECKPOINTS, _checkpoints(look, asked, run_id))
    parts = [Part("head", head), *sections.values()]
    parts.insert(2 + SECTIONS.index("findings"), checkpoints)
    state: Any = content["state"]
    return Page(f"{state.word}: {content['name']}", "runs", tuple(parts), watches=run_id)


def _checkpoints(look: Look, asked: Asked, run_id: str) -> str:
    verdict = asked.choice("verdict", LEVELS)
    lines, total = checkpoint_lines(look, run_id, verdict=verdict, offset=asked.offset)
    return look.render(
        "run_checkpoints.html",
        lines=lines,
        pager=Pager.of(asked, len(lines), total),
        asked=asked,
        levels=LEVELS,
        run_id=shown(run_id),
    )
