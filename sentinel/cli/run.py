"""`sentinel run`: a trainer under supervision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.options import (
    ANY_PATH,
    EXISTING,
    base_of,
    judging,
    rules_of,
    settled,
    stateful,
)
from sentinel.cli.output import complain, console
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.daemon.inspector import Outcome
    from sentinel.health.rows import EventRow
    from sentinel.repairs.asking import Asked
    from sentinel.repairs.recipes import Recipe


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@judging
@stateful
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
@click.option("--recipe", type=EXISTING, help="A recipe of your own for this trainer.")
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
    recipe: Path | None,
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
    from sentinel.daemon.assemble import supervising
    from sentinel.daemon.supervise import RunSettings
    from sentinel.repairs.invocation import recognise
    from sentinel.repairs.recipes import load_recipes
    from sentinel.reports.repeats import Repeats
    from sentinel.reports.timeline import line_for, lines_below

    if os.name != "posix":
        raise ConfigError(
            "command 'run'",
            fact="needs a POSIX system to stop a trainer and all its processes",
            todo="use `sentinel watch` here",
        )
    given = {"policy": policy, "max_attempts": max_attempts, "pin": pin}
    config = settled(config_path, state, log).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    err, here = console(error=True), Path.cwd()
    known = recognise(words, load_recipes(() if recipe is None else (recipe,)), here)
    asked = _asked(watched, known, words)

    repeats = Repeats()

    def tell(event: EventRow) -> None:
        err.print(line_for(event), soft_wrap=True)
        for line in lines_below(event):
            err.print(line, soft_wrap=True)

    def judged(outcome: Outcome) -> None:
        row = repeats.shorten(outcome.row, outcome.judgement.verdict)
        err.print(line_for(row, base_dir=here), soft_wrap=True)

    if known is None and config.policy != "report":
        complain("no recipe knows this command: a faulty run is stopped, but cannot be resumed")
    settings = RunSettings(
        command=words,
        cwd=here,
        roots=_roots(watched, asked, words),
        asked=asked,
        recipe=known,
        policy=config.policy,
        act_on=frozenset(config.act_on),
        max_attempts=config.max_attempts,
        grace_s=config.grace_s,
        backoff_s=config.backoff_s,
        backoff_max_s=config.backoff_max_s,
        verdict_timeout_s=config.verdict_timeout_s,
        exit_codes=config.exit_codes,
    )
    with supervising(
        settings,
        config=config,
        rules=rules_of(config, rule_paths),
        base=base_of(base),
        listener=tell,
        on_judged=judged,
        on_note=complain,
    ) as supervisor:
        return supervisor.run()


def _asked(watched: tuple[Path, ...], recipe: Recipe | None, words: tuple[str, ...]) -> Asked:
    """Return what the command asks for; one that cannot be read is no error where DIR is given."""
    from sentinel.errors import RepairError
    from sentinel.repairs.asking import Asked, asked_of

    if recipe is None:
        return Asked()
    try:
        return asked_of(recipe, words, Path.cwd())
    except RepairError as error:
        if not watched:
            raise
        complain(str(error))
        return Asked()


def _roots(watched: tuple[Path, ...], asked: Asked, words: tuple[str, ...]) -> tuple[Path, ...]:
    if watched:
        return tuple(path.absolute() for path in watched)
    if asked.output is None:
        raise ConfigError(
            "command",
            where=f"'{words[0]}'",
            fact="does not tell where its checkpoints will lie",
            todo="say it with --watch DIR",
        )
    return (asked.output,)
