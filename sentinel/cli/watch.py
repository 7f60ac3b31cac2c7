"""`sentinel watch`: the daemon beside a training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.options import (
    ANY_PATH,
    base_of,
    judging,
    quietly,
    rules_of,
    settled,
    spared,
    sparing,
    stateful,
)
from sentinel.cli.output import console, on_screen
from sentinel.cli.outside import shown_outside, with_outside
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.config import Config


@click.command()
@click.argument("directories", nargs=-1, required=True, type=ANY_PATH)
@judging
@stateful
@sparing
@click.option(
    "--pin/--no-pin",
    default=None,
    help="Keep copies of the newest good checkpoints, see docs/retention.md.  [default: no-pin]",
)
@click.option(
    "--policy",
    type=click.Choice(["auto", "report"]),
    help="auto: the hooks of sentinel.yaml act; report: none does.  [default: auto]",
)
@shown_outside
@click.option("--once", is_flag=True, help="Judge what lies there and end.")
@quietly
def command(
    directories: tuple[Path, ...],
    base: Path | None,
    rule_paths: tuple[Path, ...],
    config_path: Path | None,
    state: Path | None,
    log: Path | None,
    policy: str | None,
    pin: bool | None,
    metrics_port: int | None,
    metrics_address: str | None,
    metrics_file: Path | None,
    track: tuple[str, ...],
    once: bool,
    quiet: bool,
    **sparing_options: str | int | None,
) -> int:
    """Judge each checkpoint below DIRECTORIES once, as soon as it is whole, and log it.

    Reports only, unless `hooks` in sentinel.yaml say what to do about a certain fault. To have
    faulty runs stopped and resumed, start the trainer by `sentinel run`.
    A directory may come into being later. SIGTERM and Ctrl-C end it cleanly.
    On a terminal a table of the runs stands below the lines; elsewhere there are only lines.

    \b
    Examples:
      sentinel watch out/
      sentinel watch runs/ --once
      sentinel watch runs/ --quiet
    """
    from sentinel.cli.telling import Told
    from sentinel.daemon.assemble import watching
    from sentinel.daemon.places import places_of

    config = spared(settled(config_path, state, log), **sparing_options)
    if pin is not None:
        config = config.model_copy(update={"pin": pin})
    if policy is not None:
        config = config.model_copy(update={"policy": policy})
    config = with_outside(
        config, port=metrics_port, address=metrics_address, file=metrics_file, track=track
    )
    _refuse_hooks(config)
    roots = tuple(directory.absolute() for directory in directories)
    told = Told(console(), Path.cwd(), quiet_below=config.fail_on if quiet else None)
    with watching(
        roots,
        config=config,
        rules=rules_of(config, rule_paths),
        base=base_of(base),
        listener=told.judged,
        on_event=told.event,
        on_note=told.note,
    ) as watch:
        if quiet or once or not on_screen(told.out):
            worst = watch.run(once=once)
        else:
            from sentinel.cli.live import live

            with live(told, watch, roots, places_of(config).journal):
                worst = watch.run(once=once)
    return {"healthy": 0, "suspect": 0, "faulty": 1, "unreadable": 2}[worst] if once else 0


def _refuse_hooks(config: Config) -> None:
    if config.hooks and config.policy != "report" and os.name != "posix":
        raise ConfigError(
            "setting 'hooks'",
            fact="needs a POSIX system to stop a trainer",
            todo="give --policy report here",
        )
