"""`sentinel doctor`: what this machine can do, and what is known to go wrong on it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.exit_codes import FOUND, GOOD
from sentinel.cli.options import EXISTING, rules_of, settled, stateful
from sentinel.cli.output import OutputClosed, console, say
from sentinel.config import default_state_dir

if TYPE_CHECKING:
    from sentinel.config import Config


@click.command()
@stateful
@click.option(
    "--config",
    "config_path",
    type=EXISTING,
    help="The settings file.  [default: sentinel.yaml here]",
)
@click.option("--python", type=EXISTING, help="The trainer's interpreter.  [default: this one]")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text or JSON."
)
def command(
    state: Path | None,
    log: Path | None,
    config_path: Path | None,
    python: Path | None,
    form: str,
) -> int:
    """Tell what this machine can do and which of its versions are known for a fault.

    GPUs and processor with what they compute in, training libraries by their
    installed metadata (none is imported), room, limits, and where sentinel
    keeps its state. --python asks the environment of another interpreter.

    \b
    Exit codes: 0 no known problem, 1 a warning or worse.

    \b
    Examples:
      sentinel doctor
      sentinel doctor --python ~/trainer/venv/bin/python --format json
    """
    from sentinel.machine.doctor import examine
    from sentinel.preflight import check_machine
    from sentinel.reports.doctor import Diagnosis, doctor_to_json, render_doctor

    config = settled(config_path, state, log)
    machine = examine(_places(config), python)
    verdict, possible = check_machine(machine.settings, rules=rules_of(config, ()))
    diagnosis = Diagnosis(machine, verdict, possible)
    # A reader that went away does not change what was found.
    with suppress(OutputClosed):
        if form == "json":
            say(doctor_to_json(diagnosis) + "\n")
        else:
            render_doctor(diagnosis, console())
    return GOOD if verdict.level == "healthy" else FOUND


def _places(config: Config) -> dict[str, Path]:
    state = config.state or default_state_dir()
    return {"here": Path.cwd(), "state": state, "health log": config.log or state / "health"}
