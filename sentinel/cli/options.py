"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from sentinel.errors import ConfigError
from sentinel.settled import FILE_NAME, Settled
from sentinel.sizes import size_of

if TYPE_CHECKING:
    from sentinel.checkpoint import Base
    from sentinel.config import Config
    from sentinel.rules.baseline import Baseline
    from sentinel.rules.rule import Rule

Command = TypeVar("Command", bound=Callable[..., object])

EXISTING = click.Path(exists=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)


class _Place(click.Path):
    """A path of this machine or an address such as `s3://bucket/run`."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path:
        """Return the path; ConfigError becomes one line in `sentinel.cli.main`."""
        del param, ctx
        from sentinel.remote.paths import place_of

        return place_of(value)


PLACE = _Place(path_type=Path)


def judging(command: Command) -> Command:
    """Add the options of every command that judges: --base, --rules, --config."""
    for option in (
        click.option("--base", type=EXISTING, help="The base model under the adapters."),
        click.option(
            "--rules",
            "rule_paths",
            type=EXISTING,
            multiple=True,
            help="A rule file or directory of your own; may be given several times.",
        ),
        click.option(
            "--config",
            "config_path",
            type=EXISTING,
            help="The settings file.  [default: sentinel.yaml here]",
        ),
    ):
        command = option(command)
    return command


def stateful(command: Command) -> Command:
    """Add the options of every command that remembers: --state, --log."""
    for option in (
        click.option("--state", type=ANY_PATH, help="Where sentinel keeps its journal."),
        click.option("--log", type=ANY_PATH, help="The health log.  [default: STATE/health]"),
    ):
        command = option(command)
    return command


def quietly(command: Command) -> Command:
    """Add --quiet."""
    return click.option(
        "--quiet",
        "-q",
        is_flag=True,
        help="Say only faults (from `fail_on` on) and actions.",
    )(command)


def sparing(command: Command) -> Command:
    """Add the options of every command that reads beside a training."""
    for option in (
        click.option(
            "--max-read-rate", metavar="SIZE", help="Read so much a second at most, as 200MB."
        ),
        click.option(
            "--nice",
            type=click.IntRange(0, 19),
            help="How far reading gives way for the processor.  [default: 10]",
        ),
        click.option(
            "--ionice",
            type=click.Choice(["same", "lowest", "idle"]),
            help="How far reading gives way at the disk.  [default: lowest]",
        ),
    ):
        command = option(command)
    return command


def spared(config: Config, **given: str | int | None) -> Config:
    """Return the settings with what `sparing`'s options say, where they say something.

    Raises ConfigError for a rate that is no amount of bytes.
    """
    known = {name: value for name, value in given.items() if value is not None}
    rate = known.get("max_read_rate")
    if rate is not None:
        size_bytes = size_of(str(rate))
        if not size_bytes:
            raise ConfigError(
                "option '--max-read-rate'",
                fact=f"'{rate}' is no amount of bytes",
                todo="give one such as 200MB",
            )
        known["max_read_rate"] = size_bytes
    return config.model_copy(update=known)


def settled(config_path: Path | None, state: Path | None = None, log: Path | None = None) -> Config:
    """Return the settings: the command line's over the file's over the defaults."""
    from sentinel.config import load_config

    config = load_config(config_path, Path.cwd())
    given = {"state": state, "log": log}
    return config.model_copy(update={key: value for key, value in given.items() if value})


def settled_verdicts(config_path: Path | None) -> Settled:
    """Return the settings of verdicts, importing what reads a file only where there is one."""
    if config_path is None and not (Path.cwd() / FILE_NAME).is_file():
        return Settled()
    return settled(config_path).of_verdicts()


def rules_of(config: Config | Settled, rule_paths: Sequence[Path]) -> tuple[Rule, ...]:
    """Return the catalogue and the user's own rules, as the settings change them."""
    from sentinel.rules.load import load_rules

    return load_rules(rule_paths, config.rules)


def base_of(path: Path | None) -> Base | None:
    """Return the base model the user named."""
    if path is None:
        return None
    from sentinel.formats.base import read_base

    return read_base(path)


def baseline_of(path: Path | None) -> Baseline | None:
    """Return the accepted findings of a file, None without one."""
    if path is None:
        return None
    from sentinel.rules.baseline import read_baseline

    return read_baseline(path)
