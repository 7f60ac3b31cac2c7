"""Who wins where several sources name a setting: a table for the user.

An option `--set` wins over the recipe file, and both over the checkpoint that is resumed; what
none of them names has its default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .recipe import Recipe
from .recipe_file import Settings, flatten

Source = Literal["--set", "recipe", "checkpoint", "default"]

_PLACES = ("output_dir", "base.model")
"""Settings that name a place, which a checkpoint may have outlived."""

_INSTEAD = {"training.steps": "training.epochs", "training.epochs": "training.steps"}
"""Settings that a source puts aside by naming the other one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting's value, whose it is, and what it goes over (None: nobody else named it)."""

    key: str
    value: Any
    source: Source
    over: tuple[Source, Any] | None


def choices(
    recipe: Recipe, options: Settings, file: Settings, checkpoint: Mapping[str, Any] | None
) -> list[Choice]:
    """Return every setting that is inherited or goes over another's; the rest is left out.

    A value that the checkpoint has too, whoever repeats it, and one that is the default
    anyway, need no telling.
    """
    sources: tuple[tuple[Source, Settings], ...] = (
        ("--set", flatten(options)),
        ("recipe", flatten(file)),
        ("checkpoint", flatten(checkpoint or {})),
    )
    found = []
    for key, value in flatten(recipe.model_dump(mode="json")).items():
        named = [(source, given[key]) for source, given in sources if key in given]
        if not named or (key in _PLACES and checkpoint is not None):
            continue
        (source, first), *others = named
        if not _same(first, value) and (source == "checkpoint" or key in _INSTEAD):
            winner = _who_names(_INSTEAD.get(key), sources)
            found.append(Choice(key, value, winner, (source, first)))
            continue
        over = next(((other, it) for other, it in others if not _same(it, value)), None)
        inherited = source == "checkpoint" and value not in (_default(key), [], {})
        if over or inherited:
            found.append(Choice(key, value, source, over))
    return found


def table(found: Sequence[Choice]) -> list[str]:
    """Return the choices as lines of a table, none where there is nothing to tell."""
    if not found:
        return []
    rows = [("setting", "value", "who wins", "over")]
    for each in found:
        over = f"{each.over[0]}: {_words(each.over[1])}" if each.over else ""
        won = "checkpoint (inherited)" if each.source == "checkpoint" else each.source
        rows.append((each.key, _words(each.value), won, over))
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    return [
        "  " + "  ".join([*(row[at].ljust(widths[at]) for at in range(3)), row[3]]).rstrip()
        for row in rows
    ]


def _who_names(key: str | None, sources: Sequence[tuple[Source, Settings]]) -> Source:
    """Return the first source that gives ``key`` a value."""
    named = (source for source, given in sources if key and given.get(key) is not None)
    return next(named, "default")


def _same(one: Any, other: Any) -> bool:
    """Compare as YAML and JSON would: a tuple is a list, a pattern of one a list of one."""
    if isinstance(one, (list, tuple)) or isinstance(other, (list, tuple)):
        return _list(one) == _list(other)
    return bool(one == other)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _words(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _default(key: str) -> Any:
    """Return what a setting is when nobody names it; dotted keys lead through the sections."""
    *sections, name = key.split(".")
    section: Any = Recipe
    for part in sections:
        section = section.model_fields[part].annotation
    return section.model_fields[name].get_default(call_default_factory=True)
