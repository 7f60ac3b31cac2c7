"""`sentinel check`: judge a training before its first step."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.exit_codes import FOUND, GOOD, UNREADABLE
from sentinel.cli.formats import Judged, formatted
from sentinel.cli.options import EXISTING, judging, rules_of, settled
from sentinel.cli.output import OutputClosed, console, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentinel.formats.settings import Setting
    from sentinel.preflight import Checked


@click.command()
@click.argument("training", metavar="CONFIG", type=EXISTING)
@judging
@formatted
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
    also: tuple[tuple[str, Path], ...],
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
      sentinel check config.json --format junit --elsewhere
      sentinel check config.yaml --python ~/trainer/venv/bin/python
    """
    from sentinel.preflight import check
    from sentinel.reports.check import check_to_json, render_check
    from sentinel.reports.subjects import subjects_of_check

    config = settled(config_path)
    rules = rules_of(config, rule_paths)
    checked = check(training, rules=rules, machine={} if elsewhere else _machine(python), base=base)
    fails_from = fail_on or config.fail_on
    code = _exit_code(checked, fails_from)
    judged = Judged(
        partial(subjects_of_check, checked),
        partial(check_to_json, checked),
        rules,
        fails_from,
        code,
    )
    judged.write(also)
    # A reader that went away does not change what was found.
    with suppress(OutputClosed):
        if form == "text":
            render_check(checked, console(), Path.cwd(), verbose=verbose)
        else:
            say(judged.in_form(form))
    return code


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
