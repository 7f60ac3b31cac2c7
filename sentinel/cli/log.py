"""`sentinel log`: what the health log remembers."""

from __future__ import annotations

from pathlib import Path

import click

from sentinel.cli.options import ANY_PATH, console, settled
from sentinel.errors import ConfigError


@click.command()
@click.argument("run", required=False)
@click.option("--sql", "query", help="A DuckDB query over `checkpoints`, `tensors`, `events`.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", help="Output."
)
@click.option("--log", type=ANY_PATH, help="The health log.  [default: STATE/health]")
@click.option("--state", type=ANY_PATH, help="Where sentinel keeps its journal.")
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
def command(
    run: str | None,
    query: str | None,
    form: str,
    log: Path | None,
    state: Path | None,
    config_path: Path | None,
) -> None:
    """Show a run (an id, its beginning, or its directory), all runs, or the answer to --sql.

    \b
    Examples:
      sentinel log                       every run
      sentinel log out/                  the run that writes to out/
      sentinel log --sql "SELECT step, verdict, reason FROM checkpoints ORDER BY seq"
    """
    from sentinel.daemon.assemble import places_of

    places = places_of(settled(config_path, state, log))
    if query is not None:
        from sentinel.health.query import sql
        from sentinel.reports.table import print_table

        print_table(sql(places.log, query), console(), form)
        return
    from sentinel.health.reading import read_run
    from sentinel.reports.runs import render_runs
    from sentinel.reports.timeline import render_log

    if run is None:
        render_runs(places.log, console())
        return
    told = read_run(places.log, _run_id(run, places.journal))
    render_log(told.checkpoints, told.events, console(), base_dir=Path.cwd())


def _run_id(name: str, journal_path: Path) -> str:
    """Return the run that a directory, an id or the beginning of one stands for."""
    from sentinel.daemon.journal import Journal

    if not journal_path.exists():
        return name
    journal = Journal(journal_path)
    runs = journal.runs()
    journal.close()
    place = Path(name).absolute()
    by_root = [one for one, roots in runs.items() if place in roots or place.resolve() in roots]
    found = by_root or [one for one in runs if one.startswith(name)]
    if len(found) == 1:
        return found[0]
    raise ConfigError(
        f"run '{name}'",
        fact=f"{len(found)} runs begin so" if found else "is not in the health log",
        todo="see `sentinel log` for all runs",
    )
