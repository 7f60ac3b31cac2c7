"""`sentinel log`: what the health log remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.options import ANY_PATH, settled
from sentinel.cli.output import Form, complain, console, say_rows
from sentinel.cli.runs import ask, run_named

if TYPE_CHECKING:
    from sentinel.daemon.places import Places


@click.command()
@click.argument("run", required=False)
@click.option("--sql", "query", help="A DuckDB query over `checkpoints`, `tensors`, `events`.")
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
      sentinel log --sql "SELECT step, verdict FROM checkpoints ORDER BY seq"
    """
    from sentinel.daemon.places import places_of

    places = places_of(settled(config_path, state, log))
    if query is not None:
        say_rows(ask(places, query), form)
    elif run is None:
        _show_runs(places, form)
    else:
        _show_run(places, run_named(run, places), form)


def _show_runs(places: Places, form: Form) -> None:
    from sentinel.reports.runs import RUNS, render_runs

    runs = ask(places, RUNS)
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
        render_log(told.checkpoints, told.events, console(), base_dir=Path.cwd())
        return
    names = ("attempt", "at", "kind", "step", "loss", "path", "says")
    moments = story(told.checkpoints, told.events)
    rows = [(m.attempt, m.at.isoformat(), m.word, m.step, m.loss, m.path, m.says) for m in moments]
    say_rows(Rows(names, tuple(rows)), form)
