"""`sentinel run`: a trainer under supervision."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sentinel.cli import completing
from sentinel.cli.options import ANY_PATH, EXISTING, judging, quietly, sparing, stateful
from sentinel.cli.output import complain
from sentinel.cli.outside import shown_outside


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument(
    "words",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    metavar="-- COMMAND...",
    shell_complete=completing.files,
)
@judging
@stateful
@sparing
@click.option(
    "--watch",
    "watched",
    type=ANY_PATH,
    multiple=True,
    help="Where the trainer writes checkpoints, when its recipe does not tell.",
)
@click.option(
    "--policy",
    type=click.Choice(["auto", "stop", "report"]),
    help="auto: stop and resume; stop: stop only; report: never act.  [default: auto]",
)
@click.option("--max-attempts", type=click.IntRange(1), help="Give up after so many.  [default: 4]")
@click.option(
    "--pin/--no-pin",
    default=None,
    help="Keep copies of the newest good checkpoints, see docs/retention.md.  [default: pin]",
)
@shown_outside
@click.option("--recipe", type=EXISTING, help="A recipe of your own for this trainer.")
@quietly
def command(
    words: tuple[str, ...],
    base: Path | None,
    rule_paths: tuple[Path, ...],
    config_path: Path | None,
    state: Path | None,
    log: Path | None,
    watched: tuple[Path, ...],
    policy: str | None,
    max_attempts: int | None,
    pin: bool | None,
    metrics_port: int | None,
    metrics_address: str | None,
    metrics_file: Path | None,
    track: tuple[str, ...],
    recipe: Path | None,
    quiet: bool,
    max_read_rate: str | None,
    nice: int | None,
    ionice: str | None,
) -> int:
    """Start COMMAND, judge every checkpoint it writes, and act when one is faulty.

    On a certain fault the trainer is stopped, the checkpoint moved out of its reach, and the
    training started again from the last good checkpoint in a precision that works.

    \b
    Exit codes: the trainer's own when it ended by itself on a good last
    checkpoint, 70 it ended on a faulty one, 75 gave up, 76 stopped by policy,
    128+N ended by signal N.

    \b
    Examples:
      sentinel run -- sentinel-train recipe.yaml
      sentinel run --policy report --watch out/ -- python train.py
    """
    from sentinel.cli.supervised import Request, supervised

    request = Request(
        words=words,
        cwd=Path.cwd(),
        base=_absolute(base),
        rule_paths=tuple(path.absolute() for path in rule_paths),
        config_path=_absolute(config_path),
        state=_absolute(state),
        log=_absolute(log),
        watched=tuple(path.absolute() for path in watched),
        policy=policy,
        max_attempts=max_attempts,
        pin=pin,
        metrics_port=metrics_port,
        metrics_address=metrics_address,
        metrics_file=_absolute(metrics_file),
        track=track,
        recipe=_absolute(recipe),
        quiet=quiet,
        max_read_rate=max_read_rate,
        nice=nice,
        ionice=ionice,
    )
    with supervised(request, resumes=False) as supervisor:
        code = supervisor.run()
        if supervisor.can_resume(code):
            complain(f"`{_resume_words(state)}` tells how it would go on")
    return code


def _resume_words(state: Path | None) -> str:
    where = () if state is None else ("--state", str(state))
    return shlex.join(("sentinel", "resume", *where, "--dry-run"))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
