"""Every run of a health log, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sentinel.health.rows import LOSS
from sentinel.reports.spark import LEGEND, drawn
from sentinel.reports.words import STYLE_OF_LEVEL, TEXT_WIDTH, path_words, shown

if TYPE_CHECKING:
    from rich.console import Console

    from sentinel.reports.table import Rows

DRAWN_WIDTH = 24
"""Columns of a strip: beside the other columns it fits into a terminal of 80."""

WIDE = 100
"""From this width on there is room for the numbers beside a line of them."""

RUNS = """
SELECT substr(run_id, 1, 8) AS run,
       strftime(max(judged_at), '%Y-%m-%d %H:%M') AS last_judged_utc,
       arg_max(verdict, (attempt, seq)) AS last_verdict,
       arg_max(step, (attempt, seq)) AS last_step,
       count(*) AS checkpoints,
       count(*) FILTER (verdict = 'faulty') AS faulty,
       count(DISTINCT attempt) AS attempts,
       arg_max(path, (attempt, seq)) AS last_path
FROM checkpoints
GROUP BY run_id
ORDER BY max(judged_at), run_id
"""
"""The query over a health log that `render_runs` tells the answer of, the newest run last."""


RUNS_DRAWN = """
SELECT told.*, drawn.verdicts, drawn.losses
FROM (_TOLD_) AS told
JOIN (
    SELECT substr(run_id, 1, 8) AS run,
           list(verdict ORDER BY attempt, step, seq) AS verdicts,
           list(TRY_CAST(settings ->> '$."_LOSS_"' AS DOUBLE)
                ORDER BY attempt, step, seq) AS losses
    FROM checkpoints
    GROUP BY run_id
) AS drawn USING (run)
""".replace("_TOLD_", RUNS).replace("_LOSS_", LOSS)
"""The same with each run's verdicts and losses in order, for a terminal."""


def render_runs(runs: Rows, console: Console, *, base_dir: Path) -> None:
    """Print the answer to RUNS, paths relative to ``base_dir``; in a pipe one line a run.

    On a terminal, that to RUNS_DRAWN: a strip of the verdicts and a line of the losses below.
    """
    styles: dict[str, str] = dict(STYLE_OF_LEVEL.items())
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=TEXT_WIDTH)
    for row in runs.rows:
        run = dict(zip(runs.names, row, strict=True))
        level = str(run["last_verdict"])
        name = Text(str(run["run"]), "bold")
        when = Text(f"{run['last_judged_utc']} UTC", "dim")
        verdict = Text(f"{shown(level):<10}", styles.get(level, ""))
        told = [_counts(run), path_words(Path(str(run["last_path"])), base_dir)]
        told = [shown(part, console.encoding) for part in told]
        if console.is_terminal:
            told_lines = Text("\n".join(told))
            for line in _drawn(run, console):
                told_lines.append("\n").append_text(line)
            table.add_row(name, when, verdict, told_lines)
        else:
            line = Text("  ").join([name, when, verdict, Text(" | ".join(told))])
            console.print(line, soft_wrap=True)
    if console.is_terminal:
        console.print(table)
        console.print(Text(f"verdicts: {LEGEND}", "dim"))


def _drawn(run: dict[str, object], console: Console) -> Iterator[Text]:
    verdicts, losses = run.get("verdicts"), run.get("losses")
    if isinstance(verdicts, list) and isinstance(losses, list):
        numbers = [None if one is None else float(one) for one in losses]
        wide = console.width >= WIDE
        yield from drawn(verdicts, {"loss": numbers}, DRAWN_WIDTH, console.encoding, words=wide)


def _counts(run: dict[str, object]) -> str:
    step = "step ?" if run["last_step"] is None else f"step {run['last_step']}"
    told = [step, _count(run["checkpoints"], "checkpoint")]
    if run["faulty"]:
        told.append(f"{run['faulty']} faulty")
    if run["attempts"] != 1:
        told.append(_count(run["attempts"], "attempt"))
    return ", ".join(told)


def _count(number: object, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
