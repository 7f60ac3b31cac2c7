"""Options of both daemons: where their health is shown besides the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from sentinel.cli.options import ANY_PATH

if TYPE_CHECKING:
    from sentinel.config import Config

Command = TypeVar("Command", bound=Callable[..., object])


def shown_outside(command: Command) -> Command:
    """Add --metrics-port, --metrics-address, --metrics-file and --track."""
    for option in (
        click.option(
            "--metrics-port",
            type=click.IntRange(0, 65535),
            metavar="PORT",
            help="Serve Prometheus' metrics here, see docs/metrics.md.",
        ),
        click.option(
            "--metrics-address",
            metavar="ADDRESS",
            help="The address they are served at.  [default: 127.0.0.1]",
        ),
        click.option(
            "--track",
            type=click.Choice(["tensorboard", "mlflow", "wandb"]),
            multiple=True,
            help="Write verdicts where the training logs, see docs/trackers.md.",
        ),
        click.option(
            "--metrics-file",
            type=ANY_PATH,
            help="Write them for node_exporter's textfile collector.",
        ),
    ):
        command = option(command)
    return command


def with_outside(
    config: Config,
    *,
    port: int | None,
    address: str | None,
    file: Path | None,
    track: Sequence[str],
) -> Config:
    """Return the settings with what the command line says of metrics and trackers."""
    from sentinel.alerting import Tracker

    given = {"port": port, "address": address, "file": file and file.absolute()}
    wanted = {name: value for name, value in given.items() if value is not None}
    metrics = config.metrics.model_copy(update=wanted)
    known = {tracker.to for tracker in config.trackers}
    more = [Tracker.model_validate({"to": name}) for name in track if name not in known]
    trackers = (*config.trackers, *more)
    return config.model_copy(update={"metrics": metrics, "trackers": trackers})
