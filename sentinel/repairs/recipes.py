"""Recipes: how one trainer is told what to do, read from YAML; no trainer's name is in code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel.errors import RepairError
from sentinel.rules.load import catalogue

Precision = Literal["fp32", "bf16", "fp16"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Assignment(_Frozen):
    """An option given as ``OPTION KEY=VALUE``, perhaps several times; the last one wins."""

    option: str
    key: str


class ConfigKey(_Frozen):
    """A top-level key of the YAML or JSON file that is the n-th plain argument (from 1)."""

    argument: int
    key: str


class Source(_Frozen):
    """One place a value may come from: an option, an assignment, or the configuration file."""

    option: str | None = None
    assignment: Assignment | None = None
    config: ConfigKey | None = None


class Picks(_Frozen):
    """Which checkpoint the trainer begins from by itself: one named by an option, or its latest."""

    option: str | None = None
    latest: bool = False


class OptimizerArguments(_Frozen):
    """What to add to the command so that the saved optimizer state is loaded or left out."""

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class Recipe(_Frozen):
    """How one trainer is recognised, resumed and given another precision."""

    id: str
    title: str
    recognise: tuple[str, ...]
    output: tuple[Source, ...] = ()
    resume_into: Literal["same", "new"] = "same"
    picks: Picks = Field(default_factory=Picks)
    resume: tuple[str, ...] = ()
    optimizer: OptimizerArguments = Field(default_factory=OptimizerArguments)
    precision: dict[Precision, tuple[str, ...]] = Field(default_factory=dict)
    replaces: dict[str, int] = Field(default_factory=dict)
    effect: dict[str, str] = Field(default_factory=dict)


def load_recipes(extra: Sequence[Path] = ()) -> tuple[Recipe, ...]:
    """Read the user's recipes and then the bundled ones; the first that fits a command wins."""
    return tuple(
        _load(path) for path in (*extra, *sorted((catalogue() / "recipes").glob("*.yaml")))
    )


def _load(path: Path) -> Recipe:
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
    except yaml.YAMLError as error:
        fact = f"is not valid YAML ({' '.join(str(error).split())})"
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        fact = f"'{place}': {first['msg'].lower()}"
    raise RepairError(
        "recipe", where=f"'{path}'", fact=fact, todo="see docs/architecture.md for its keys"
    )


def recognise(command: Sequence[str], recipes: Sequence[Recipe]) -> Recipe | None:
    """Return the recipe whose trainer this command starts, None for an unknown one."""
    names = {PurePath(word).name for word in command if not word.startswith("-")}
    for recipe in recipes:
        if names & set(recipe.recognise):
            return recipe
    return None


def output_directory(recipe: Recipe, command: Sequence[str], cwd: Path) -> Path | None:
    """Return where the command's trainer will write its checkpoints, None when nothing tells.

    Raises RepairError when the configuration file that should tell cannot be read.
    """
    for source in recipe.output:
        value = _value(source, recipe, command, cwd)
        if value:
            return (cwd / value).resolve()
    return None


def chosen_checkpoint(recipe: Recipe, command: Sequence[str], cwd: Path) -> Path | None:
    """Return the checkpoint that the command names itself as its starting point."""
    if recipe.picks.option is None:
        return None
    value = _option(command, recipe.picks.option)
    return None if value is None else (cwd / value).resolve()


def compose(
    recipe: Recipe,
    command: Sequence[str],
    *,
    checkpoint: Path | None,
    precision: Precision | None,
    optimizer: Literal["keep", "drop"],
) -> tuple[str, ...]:
    """Return the user's command changed so that the trainer begins as planned.

    Options of the user that would contradict the plan are left out; the plan's come last, so
    that they win where an option may be given twice.
    """
    words = list(_without(command, recipe.replaces))
    if precision is not None:
        words += recipe.precision[precision]
    if checkpoint is not None:
        words += [word.replace("{checkpoint}", str(checkpoint)) for word in recipe.resume]
        words += getattr(recipe.optimizer, optimizer)
    return tuple(words)


def _value(source: Source, recipe: Recipe, command: Sequence[str], cwd: Path) -> str | None:
    if source.option is not None:
        return _option(command, source.option)
    if source.assignment is not None:
        return _assigned(command, source.assignment)
    if source.config is not None:
        return _configured(command, source.config, recipe, cwd)
    return None


def _option(command: Sequence[str], name: str) -> str | None:
    found = None
    for position, word in enumerate(command):
        if word == name and position + 1 < len(command):
            found = command[position + 1]
        elif word.startswith(f"{name}="):
            found = word.split("=", 1)[1]
    return found


def _assigned(command: Sequence[str], wanted: Assignment) -> str | None:
    found = None
    for option, value in pairwise(command):
        if option == wanted.option and value.startswith(f"{wanted.key}="):
            found = value.split("=", 1)[1]
    return found


def _configured(command: Sequence[str], wanted: ConfigKey, recipe: Recipe, cwd: Path) -> str | None:
    plain = _plain_arguments(command, recipe)
    if len(plain) < wanted.argument:
        return None
    path = cwd / plain[wanted.argument - 1]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        fact = f"cannot be read ({error.strerror})"
    except yaml.YAMLError as error:
        fact = f"is not valid YAML ({' '.join(str(error).split())})"
    else:
        value = content.get(wanted.key) if isinstance(content, Mapping) else None
        return None if value is None else str(value)
    raise RepairError(
        "configuration",
        where=f"'{path}'",
        fact=fact,
        todo=f"sentinel needs its '{wanted.key}' to know what to watch; or give --watch DIR",
    )


def _plain_arguments(command: Sequence[str], recipe: Recipe) -> list[str]:
    """Return the arguments after the program that are neither options nor values of options."""
    start = 1 + max(
        (at for at, word in enumerate(command) if PurePath(word).name in recipe.recognise),
        default=0,
    )
    takes_value = {source.assignment.option for source in recipe.output if source.assignment}
    takes_value |= set(recipe.replaces)
    plain, skip = [], False
    for word in command[start:]:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in takes_value
        else:
            plain.append(word)
    return plain


def _without(command: Sequence[str], replaced: Mapping[str, int]) -> list[str]:
    kept, skip = [], 0
    for word in command:
        if skip:
            skip -= 1
        elif word in replaced:
            skip = replaced[word]
        elif word.split("=", 1)[0] not in replaced:
            kept.append(word)
    return kept
