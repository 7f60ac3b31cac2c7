"""`sentinel resume`: a run that ended badly goes on, as its findings ask."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import completing
from sentinel.cli.options import ANY_PATH, settled
from sentinel.cli.output import OutputClosed, console
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.cli.supervised import Request
    from sentinel.daemon.journal import Journal
    from sentinel.daemon.supervise import Foreseen


@click.command()
@click.argument("run", required=False, shell_complete=completing.runs)
@click.option("--dry-run", is_flag=True, help="Only tell where it would begin, and how.")
@click.option(
    "--policy",
    type=click.Choice(["auto", "stop", "report"]),
    help="What comes after the resume.  [default: as the run was started]",
)
@click.option("--max-attempts", type=click.IntRange(1), help="Give up after so many more.")
@click.option("--state", type=ANY_PATH, help="Where sentinel keeps its journal.")
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
def command(
    run: str | None,
    dry_run: bool,
    policy: str | None,
    max_attempts: int | None,
    state: Path | None,
    config_path: Path | None,
) -> int:
    """Go on with RUN (an id, its beginning, or its directory; default: the one started last).

    RUN was started by `sentinel run` and ended: on a faulty checkpoint, stopped by the policy,
    given up, or interrupted. What is faulty is moved out of the trainer's reach, and the training
    begins from the last good checkpoint with what the findings ask for, those of likely rules
    too. It is supervised as before, by the same options, in the same directory, with the
    environment of this shell.

    With --dry-run nothing is moved or started: the place, the changes to the configuration and
    the command are shown.

    \b
    Exit codes: those of `sentinel run`; with --dry-run 0, or 1 when there is no
    way on.

    \b
    Examples:
      sentinel resume --dry-run
      sentinel resume out/ --policy auto
    """
    from sentinel.cli.supervised import supervised

    request = _request(run, config_path, state)
    given = {"policy": policy, "max_attempts": max_attempts}
    changes = {name: value for name, value in given.items() if value is not None}
    request = replace(request, **changes)  # type: ignore[arg-type]  # the option's own types
    try:
        os.chdir(request.cwd)
    except OSError as error:
        raise ConfigError(
            "directory",
            where=f"'{request.cwd}'",
            fact=f"in which the run was started cannot be entered ({error.strerror})",
            todo="start the training where it lies now, by `sentinel run`",
        ) from error
    with supervised(request, resumes=True) as supervisor:
        if not dry_run:
            return supervisor.run()
        foreseen = supervisor.foresee()
    with suppress(OutputClosed):
        _show(foreseen)
    return 0 if foreseen.start is not None else 1


def _request(run: str | None, config_path: Path | None, state: Path | None) -> Request:
    """Return how a run was started, with this call's state directory."""
    from sentinel.cli.supervised import Request
    from sentinel.daemon.journal import Journal
    from sentinel.daemon.places import places_of

    places = places_of(settled(config_path, state))
    if not places.journal.exists():
        raise ConfigError(
            "state directory",
            where=f"'{places.state}'",
            fact="knows no run",
            todo="give the --state that `sentinel run` was given",
        )
    journal = Journal(places.journal)
    try:
        run_id = _run_id(run, journal)
        told = journal.command(run_id)
    finally:
        journal.close()
    if told is None:
        raise ConfigError(
            f"run '{run_id}'",
            fact="was only watched, so how it is started is not known",
            todo="start it by `sentinel run -- YOUR USUAL COMMAND`: it looks at what lies there"
            " first and begins from the last good checkpoint",
        )
    return replace(Request.from_told(told), state=places.state)


def _run_id(name: str | None, journal: Journal) -> str:
    """Return the run that an id, the beginning of one, or a directory stands for."""
    if name is None:
        last = journal.last_started()
        if last is None:
            raise ConfigError(
                "run", fact="was never started", todo="start it by `sentinel run -- COMMAND`"
            )
        return last
    runs = journal.runs()
    real = Path(os.path.realpath(name))
    found = {run for run, roots in runs.items() if real in roots}
    found = found or {run for run in runs if run.startswith(name)}
    if len(found) == 1:
        return found.pop()
    raise ConfigError(
        f"run '{name}'",
        fact=f"{len(found)} runs are called so" if found else "is not known here",
        todo="see `sentinel log` for all runs",
    )


def _show(foreseen: Foreseen) -> None:
    from sentinel.reports.timeline import diff_lines

    out = console()
    for judged in foreseen.moved:
        out.print(f"would move '{judged.path}' away, which is {judged.level}", soft_wrap=True)
    out.print(f"would {foreseen.says}" if foreseen.start else foreseen.says, soft_wrap=True)
    if foreseen.start is None:
        return
    for line in diff_lines(foreseen.start.diff):
        out.print(line, soft_wrap=True)
    for name, value in foreseen.start.environment.items():
        out.print(f"with {name}={value}", soft_wrap=True)
    out.print(shlex.join(foreseen.start.command), soft_wrap=True)
