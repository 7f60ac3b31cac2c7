"""What a command asks of its trainer: where checkpoints will lie, and where it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sentinel.formats.configs.reader import LATEST
from sentinel.formats.settings import Setting
from sentinel.repairs.invocation import Invocation, take_apart, told_settings
from sentinel.repairs.recipes import Recipe

_RESUMED = "-resumed"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a recipe can tell of a command.

    ``output`` is where checkpoints will lie, ``begins`` the checkpoint it starts from by itself
    (`latest` for the newest in ``output``); None where that is not told. ``settings`` are those
    that the command and its configuration tell.
    """

    output: Path | None = None
    begins: Path | Literal["latest"] | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)


def asked_of(recipe: Recipe, command: Sequence[str], cwd: Path) -> Asked:
    """Return what a command asks; raises RepairError when its configuration cannot be read."""
    invocation = take_apart(recipe, command, cwd)
    output = _output(invocation)
    return Asked(output, _begins(invocation, output), told_settings(invocation))


def fresh_root(output: Path) -> Path:
    """Return where a run's fresh directories lie: beside its own, where no trainer looks."""
    return output.with_name(f"{output.name}{_RESUMED}")


def _output(invocation: Invocation) -> Path | None:
    where = invocation.recipe.output
    if where is None:
        return None
    told = invocation.value(where.field) or where.default
    if not isinstance(told, str):
        return None
    below = invocation.value(where.below) if where.below else None
    found = invocation.cwd / told
    return (found / below if isinstance(below, str) else found).resolve()


def _begins(invocation: Invocation, output: Path | None) -> Path | Literal["latest"] | None:
    picks = invocation.recipe.picks
    told = invocation.value(picks.field) if picks.field else None
    value = picks.default if told is None else told
    if value is True or str(value).lower() in {LATEST, "true"}:
        return LATEST
    if not isinstance(value, str) or value.lower() in {"", "false", "none"}:
        return None
    named = invocation.cwd / value
    if output is not None and not named.exists() and (output / value).exists():
        named = output / value
    return named.resolve()
