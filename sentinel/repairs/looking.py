"""Which trainers a directory is set up for, by the configurations that lie there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sentinel.errors import InputError
from sentinel.formats.configs.registry import read_config
from sentinel.repairs.recipes import Recipe
from sentinel.repairs.scripts import SUFFIXES

_SUFFIXES = frozenset({".json", ".yaml", ".yml", ".toml", *SUFFIXES})
_DEEPEST = 3
_MOST = 2000


@dataclass(frozen=True, slots=True)
class Setup:
    """A trainer's configuration and the command that usually starts it."""

    recipe: Recipe
    configuration: Path
    command: tuple[str, ...]


def setups_at(directory: Path, recipes: Sequence[Recipe]) -> tuple[Setup, ...]:
    """Return what lies in a directory and a little below it, the nearest first.

    What cannot be read, or belongs to no trainer known here, is passed over.
    """
    known = {recipe.reads: recipe for recipe in recipes if recipe.reads}
    found: list[Setup] = []
    for path in _files(directory):
        try:
            recipe = known.get(read_config(path).trainer)
        except InputError:
            continue
        if recipe is not None:
            found.append(Setup(recipe, path, _command(recipe, path, directory)))
    return tuple(
        sorted(found, key=lambda setup: (len(setup.configuration.parts), setup.configuration))
    )


def _files(directory: Path) -> Iterator[Path]:
    looked = 0
    for place, inner, names in os.walk(directory):
        deep = len(Path(place).relative_to(directory).parts)
        inner[:] = [] if deep == _DEEPEST else sorted(n for n in inner if not n.startswith("."))
        for name in sorted(names):
            looked += 1
            if looked > _MOST:
                return
            if PurePath(name).suffix.lower() in _SUFFIXES:
                yield Path(place) / name


def _command(recipe: Recipe, path: Path, directory: Path) -> tuple[str, ...]:
    """Return the usual command; a script is run itself."""
    relative = path.relative_to(directory)
    if path.suffix in SUFFIXES or not recipe.usual:
        return ("bash", str(relative))
    names = {"{configuration}": str(relative), "{directory}": str(relative.parent)}
    return tuple(names.get(word, word) for word in recipe.usual)
