"""`sentinel check`: judge a training before its first step."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.exit_codes import FOUND, GOOD, UNREADABLE
from sentinel.cli.options import EXISTING, judging, rules_of, settled
from sentinel.cli.output import OutputClosed, console, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentinel.formats.settings import Setting
    from sentinel.preflight import Checked


@click.command()
@click.argument("training", metavar="CONFIG", type=EXISTING)
@judging
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text or JSON."
)
@click.option(
    "--fail-on",
    type=click.Choice(["suspect", "faulty"]),
    help="The verdict from which the exit code is 1.  [default: faulty]",
)
@click.option("--python", type=EXISTING, help="The trainer's interpreter.  [default: this one]")
@click.option(
    "--elsewhere", is_flag=True, help="It will run on another machine: leave this one out."
)
@click.option("--verbose", "-v", is_flag=True, help="List the rules that could not be asked.")
def command(
    training: Path,
    base: Path | None,
    rule_paths: tuple[Path, ...],
    config_path: Path | None,
    form: str,
    fail_on: str | None,
    python: Path | None,
    elsewhere: bool,
    verbose: bool,
) -> int:
    """Judge a training before step 1 by its configuration CONFIG.

    CONFIG is a trainer's own file: a recipe of sentinel-train, OneTrainer's
    JSON, SimpleTuner's JSON, TOML or env, sd-scripts' and musubi-tuner's TOML,
    the YAML of Axolotl, LLaMA-Factory or ai-toolkit, Transformers' arguments,
    or a shell or batch script that calls one of them. Nothing of it is run.
    An adapter that the training begins from is judged too, against --base.

    \b
    Exit codes: 0 nothing at or above --fail-on, 1 something is, 2 the
    configuration could not be read or belongs to no known trainer.

    \b
    Examples:
      sentinel check config.json
      sentinel check train.sh --base models/llama
      sentinel check config.yaml --python ~/trainer/venv/bin/python
    """
    from sentinel.preflight import check

    config = settled(config_path)
    checked = check(
        training,
        rules=rules_of(config, rule_paths),
        machine={} if elsewhere else _machine(python),
        base=base,
    )
    # A reader that went away does not change what was found.
    with suppress(OutputClosed):
        if form == "json":
            from sentinel.reports.check import check_to_json

            say(check_to_json(checked) + "\n")
        else:
            from sentinel.reports.check import render_check

            render_check(checked, console(), Path.cwd(), verbose=verbose)
    return _exit_code(checked, fail_on or config.fail_on)


def _machine(python: Path | None) -> Mapping[str, Setting]:
    from sentinel.machine.device import device_settings
    from sentinel.machine.packages import version_settings, versions_here, versions_of

    found = versions_here() if python is None else versions_of(python)[1]
    return {**device_settings(), **version_settings(found)}


def _exit_code(checked: Checked, fail_on: str) -> int:
    levels = {checked.verdict.level}
    if checked.start is not None:
        levels.add(checked.start.verdict.level)
    if levels & ({"faulty"} if fail_on == "faulty" else {"faulty", "suspect"}):
        return FOUND
    return UNREADABLE if "unreadable" in levels else GOOD
