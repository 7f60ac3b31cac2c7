"""`sentinel log`: what the health log remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import completing
from sentinel.cli.options import ANY_PATH, settled
from sentinel.cli.output import Form, complain, console, say_rows
from sentinel.cli.runs import ask, run_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from sentinel.daemon.places import Places
    from sentinel.health.rows import CheckpointRow


@click.command()
@click.argument("run", required=False, shell_complete=completing.runs)
@click.option("--sql", "query", help="A DuckDB query over `checkpoints`, `tensors`, `events`.")
@click.option("--compact", "merging", is_flag=True, help="Merge its parts, of RUN or of all runs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    help="Text for people, one JSON object a line, or CSV.",
)
@click.option("--log", type=ANY_PATH, help="The health log.  [default: STATE/health]")
@click.option("--state", type=ANY_PATH, help="Where sentinel keeps its journal.")
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
def command(
    run: str | None,
    query: str | None,
    merging: bool,
    form: Form,
    log: Path | None,
    state: Path | None,
    config_path: Path | None,
) -> None:
    """Show a run (an id, its beginning, or its directory), all runs, or the answer to --sql.

    \b
    Examples:
      sentinel log         every run
      sentinel log out/    the run that writes to out/
      sentinel log --compact
      sentinel log --sql "SELECT step, verdict FROM checkpoints ORDER BY seq"
    """
    from sentinel.daemon.places import places_of

    places = places_of(settled(config_path, state, log))
    if merging:
        _compact(places, None if run is None else run_named(run, places))
    elif query is not None:
        say_rows(ask(places, query), form)
    elif run is None:
        _show_runs(places, form)
    else:
        _show_run(places, run_named(run, places), form)


def _compact(places: Places, run_id: str | None) -> None:
    """Merge all parts of a run, or of every run, that are not as large as parts become."""
    from sentinel.daemon.recording import refused
    from sentinel.health.compaction import compact
    from sentinel.health.log import HealthLog

    log = HealthLog(places.log)
    runs = log.run_ids() if run_id is None else (run_id,)
    try:
        count = sum(compact(log, one, everything=True) for one in runs)
    except OSError as error:
        raise refused(log, error) from error
    complain(f"merged {count} parts of the health log '{places.log}'")


def _show_runs(places: Places, form: Form) -> None:
    from sentinel.reports.runs import RUNS, RUNS_DRAWN, render_runs

    runs = ask(places, RUNS_DRAWN if form == "text" and console().is_terminal else RUNS)
    if form != "text":
        say_rows(runs, form)
    elif not runs.rows:
        complain(f"no run in the health log '{places.log}' yet")
    else:
        out = console()
        render_runs(runs, out, base_dir=Path.cwd())
        if out.is_terminal:
            out.print("\nsentinel log RUN tells what happened in one of them", style="dim")


def _show_run(places: Places, run_id: str, form: Form) -> None:
    from sentinel.health.reading import read_run
    from sentinel.reports.table import Rows
    from sentinel.reports.timeline import render_log, story

    told = read_run(places.log, run_id)
    if form == "text":
        out = console()
        render_log(told.checkpoints, told.events, out, base_dir=Path.cwd())
        if out.is_terminal:
            _draw(places, run_id, told.checkpoints, out)
        return
    names = ("attempt", "at", "kind", "step", "loss", "path", "says")
    moments = story(told.checkpoints, told.events)
    rows = [(m.attempt, m.at.isoformat(), m.word, m.step, m.loss, m.path, m.says) for m in moments]
    say_rows(Rows(names, tuple(rows)), form)


def _draw(places: Places, run_id: str, rows: Sequence[CheckpointRow], out: Console) -> None:
    """Draw how the run went below its story: verdicts, loss, and how the adapter grew."""
    from sentinel.health.reading import largest_up_norms
    from sentinel.health.rows import LOSS
    from sentinel.reports.spark import LEGEND, drawn

    norms = largest_up_norms(places.log, run_id)
    losses = [row.settings.get(LOSS) for row in rows]
    series = {
        "loss": [float(one) if isinstance(one, int | float | str) else None for one in losses],
        "lora_up norm": [norms.get(row.checkpoint_id) for row in rows],
    }
    # What is left of 80 columns beside the names and the numbers.
    width = max(10, min(60, out.width - 50))
    lines = list(drawn([row.verdict for row in rows], series, width, out.encoding))
    for line in lines:
        out.print(line, soft_wrap=True)
    if lines:
        out.print(f"verdicts: {LEGEND}", style="dim")
