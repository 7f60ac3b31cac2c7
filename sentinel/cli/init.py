"""`sentinel init`: a commented settings file for a trainer that is recognised."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.output import complain, console
from sentinel.config import Config
from sentinel.errors import ConfigError
from sentinel.settled import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel.repairs.recipes import Recipe

_COMMENTS = {
    "policy": "auto: stop and resume on what is certain; stop: stop only; report: never act.",
    "act_on": "Rules that are likely, not certain, on which `auto` may act too.",
    "state": "Where sentinel keeps its journal and the health log; your state directory otherwise.",
    "max_attempts": "Give up after so many attempts that ended faulty.",
    "settle_s": "How long a file without a completion mark must stay unchanged.",
    "torn_after_s": "How long an incomplete checkpoint may stay so before it is called torn.",
    "verdict_timeout_s": "How long a start waits for verdicts that are pending.",
    "grace_s": "How long a trainer may take to end before it is killed.",
    "backoff_s": "The pause before the second attempt; it doubles with each further one.",
    "hang_after_s": "No checkpoint and no line in a log for so long is a hang.",
    "hang": "What `sentinel run` does about a hang: report says it, restart starts it again.",
    "hooks": "What `sentinel watch` may do about a fault; see docs/supervision.md.",
    "metrics": "Where Prometheus finds its metrics; see docs/metrics.md.",
    "notify": "Who gets messages about faults and repairs; see docs/notifications.md.",
    "trackers": "Where verdicts stand beside the training's curves; see docs/trackers.md.",
    "exit_codes": "What `sentinel run` ends with, for whoever starts jobs again.",
    "fail_on": "What makes `sentinel scan` fail: faulty, or suspect already.",
}
_EXAMPLES = {
    "act_on": "[norm-explosion, adafactor-scale-parameter]",
    "state": "./sentinel-state",
    "hang_after_s": 3600.0,
    "hooks": "[{pid_file: train.pid, process: train.py, kill_after_s: 60}]",
    "metrics": "{port: 9911}",
    "notify": '{urls: ["${SENTINEL_NOTIFY_URL}"]}',
    "trackers": "[tensorboard]",
    "exit_codes": "{ended_faulty: 70, gave_up: 75, stopped_by_policy: 76}",
}


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[DIR | -- COMMAND...]")
def command(words: tuple[str, ...]) -> None:
    """Write a commented sentinel.yaml here for the trainer of a directory or a command.

    Without arguments the trainer is looked for in this directory. A file that is there already is
    left as it is.

    \b
    Examples:
      sentinel init
      sentinel init OneTrainer/
      sentinel init -- accelerate launch train_network.py --config_file cat.toml
    """
    from sentinel.repairs.recipes import load_recipes

    here = Path.cwd()
    file = here / FILE_NAME
    if file.exists():
        raise ConfigError(
            "settings",
            where=f"'{file}'",
            fact="are there already",
            todo="edit them, or move them away first",
        )
    recipes = load_recipes()
    if len(words) == 1 and Path(words[0]).is_dir():
        recipe, words = _looked_for(here, Path(words[0]), recipes)
    elif words:
        recipe = _recognised(words, recipes)
    else:
        recipe, words = _looked_for(here, here, recipes)
    with file.open("x", encoding="utf-8") as target:
        target.write(_text(recipe, words, here))
    out = console()
    out.print(f"wrote {FILE_NAME} for {recipe.title}; start the training so:", soft_wrap=True)
    out.print(f"  sentinel run -- {shlex.join(words)}", soft_wrap=True, highlight=False)


def _recognised(words: tuple[str, ...], recipes: Sequence[Recipe]) -> Recipe:
    from sentinel.repairs.invocation import recognise

    recipe = recognise(words, recipes, Path.cwd())
    if recipe is None:
        raise ConfigError(
            "command",
            where=f"'{shlex.join(words)}'",
            fact="starts no trainer known here",
            todo="see docs/trainers.md for those that are, and for a recipe of your own",
        )
    return recipe


def _looked_for(
    here: Path, directory: Path, recipes: Sequence[Recipe]
) -> tuple[Recipe, tuple[str, ...]]:
    """Return the trainer whose configuration lies nearest, and say which others there are."""
    from sentinel.repairs.looking import setups_at

    setups = setups_at(directory, recipes)
    if not setups:
        raise ConfigError(
            "directory",
            where=f"'{directory}'",
            fact="holds no configuration of a trainer known here",
            todo="give the command instead: sentinel init -- COMMAND...",
        )
    first, *others = setups
    for other in others[:5]:
        where = other.configuration.relative_to(directory)
        complain(f"'{where}' is a configuration too, of {other.recipe.title}")
    words = first.command
    return first.recipe, words if directory == here else _below(
        directory, words, first.configuration
    )


def _below(directory: Path, words: tuple[str, ...], configuration: Path) -> tuple[str, ...]:
    """Return a command with the path of its configuration from here on."""
    relative = configuration.relative_to(directory)
    names = {str(relative): configuration, str(relative.parent): configuration.parent}
    return tuple(str(names.get(word, word)) for word in words)


def _text(recipe: Recipe, words: Sequence[str], here: Path) -> str:
    from sentinel.errors import RepairError
    from sentinel.repairs.asking import asked_of, fresh_root

    lines = [f"# Sentinel around {recipe.title}. Start the training so:"]
    lines += [f"#   sentinel run -- {shlex.join(words)}"]
    try:
        output = asked_of(recipe, words, here).output
    except RepairError:
        output = None
    if output is not None:
        lines.append(f"# Its checkpoints will lie in {output}.")
        if recipe.resume.into == "new":
            lines.append(f"# After a repair it goes on in {fresh_root(output)}/2, and so on.")
    if recipe.resume.keep is None and recipe.resume.drop is None:
        lines.append("# It cannot resume: a repair begins the training anew.")
    lines.append("# A line that is commented out shows what sentinel does without it.")
    defaults = Config()
    for name, comment in _COMMENTS.items():
        value = _EXAMPLES.get(name, getattr(defaults, name))
        mark = "" if name == "policy" else "# "
        lines += ["", f"# {comment}", f"{mark}{name}: {value}"]
    return "\n".join(lines) + "\n"
