"""From a YAML file and `--set` options to a checked recipe, or to one clear sentence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .data.files import HUB_PREFIX, STDLIB_PREFIX
from .errors import RefusedError
from .recipe import Recipe

Settings = dict[str, Any]

LEAVES = frozenset({"training.optimizer.args", "training.scheduler_args", "adapter.args"})
"""Mappings that are one value: taken from one source as a whole, never mixed."""


LENGTHS = ("steps", "epochs")
"""Two ways to say how long a training is: a source that names one goes over both of another."""


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of version 1.2: `1e-6` is a number, not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)


def read_settings(path: Path) -> Settings:
    """Return a recipe file's settings, its relative paths made absolute.

    Paths are relative to the recipe's directory; only ``output_dir`` is left as it is,
    relative to the current directory.
    """
    what = f"recipe '{path}'"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedError(what, _reason(error)) from error
    settings = _parse(text, what)
    if not isinstance(settings, dict):
        raise RefusedError(what, "holds no settings", "write sections like base, data, training")
    return _absolute(settings, path.resolve().parent)


def parse_option(option: str) -> Settings:
    """Turn `section.key=value` into nested settings; the value is YAML."""
    what = f"option --set {option}"
    key, equals, text = option.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RefusedError(what, "is not of the form section.key=value")
    value: Any = _parse(text, what) if text else ""
    for part in reversed(parts):
        value = {part: value}
    return _absolute(value, Path.cwd())


def with_option(settings: Settings, option: str) -> Settings:
    """Return settings with one `--set` put over them.

    One that names a key within a mapping of `LEAVES` changes that key alone.
    """
    within = any(option.strip().startswith(f"{leaf}.") for leaf in LEAVES)
    above = parse_option(option)
    return overlay(one_length(settings, above), above, leaves=frozenset() if within else LEAVES)


def one_length(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    """Return the lower of two sources without its steps and epochs where the upper names either.

    A source that names both keeps both, to be refused.
    """
    upper, lower = above.get("training"), below.get("training")
    if not isinstance(upper, Mapping) or not isinstance(lower, Mapping):
        return dict(below)
    if all(upper.get(key) is None for key in LENGTHS):
        return dict(below)
    kept = {key: value for key, value in lower.items() if key not in LENGTHS}
    return {**below, "training": kept}


def overlay(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    prefix: str = "",
    leaves: frozenset[str] = LEAVES,
) -> Settings:
    """Return ``below`` with everything in ``above`` put over it, key by key."""
    merged: Settings = dict(below)
    for key, value in above.items():
        name = f"{prefix}{key}"
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and name not in leaves:
            merged[key] = overlay(old, value, f"{name}.", leaves)
        else:
            merged[key] = value
    return merged


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Return settings under dotted keys, with the mappings in `LEAVES` kept whole."""
    flat: Settings = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in LEAVES:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def check(settings: Settings, what: str) -> Recipe:
    """Return the recipe that ``settings`` spell, or refuse with the first thing wrong."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise RefusedError(what, _sentence(error.errors()[0])) from error


def _sentence(problem: Any) -> str:
    """Say one pydantic problem the way a user would."""
    place = [str(part) for part in problem["loc"]]
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _keys_beside(place), 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{key}'{hint}"
    if problem["type"] == "missing":
        return f"'{key}' is missing; add it to the recipe or pass --set {key}=..."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"'{key}' is {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _keys_beside(place: Sequence[str]) -> list[str]:
    """Return the known keys of the section that an unknown key was put in."""
    section: type[BaseModel] = Recipe
    for part in place[:-1]:
        field = section.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type):
            return []
        section = field.annotation
    return list(section.model_fields)


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise RefusedError(what, _reason(error)) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def _absolute(settings: Settings, root: Path) -> Settings:
    """Make the paths in ``settings`` absolute: model (when it is there) and data files."""
    base, data = settings.get("base"), settings.get("data")
    result = dict(settings)
    if isinstance(base, dict) and isinstance(base.get("model"), str):
        result["base"] = base | {"model": _model_path(base["model"], root)}
    if isinstance(data, dict):
        found = {
            key: _file_paths(data[key], root) for key in ("files", "eval_files") if key in data
        }
        template = data.get("chat_template")
        if isinstance(template, str):
            found["chat_template"] = str(root / Path(template).expanduser())
        result["data"] = data | found
    return result


def _model_path(name: str, root: Path) -> str:
    """Return a directory as an absolute path; any other plain name is meant for the hub."""
    path = root / Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")) or path == Path(name):
        return os.path.abspath(path)  # noqa: PTH100 - keeps links, unlike resolve
    return name


def _file_paths(value: Any, root: Path) -> Any:
    """Return file patterns as absolute patterns; one string counts as a list of one."""
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list):
        return value
    return [
        pattern
        if not isinstance(pattern, str) or pattern.startswith((STDLIB_PREFIX, HUB_PREFIX))
        else str(root / Path(pattern).expanduser())
        for pattern in patterns
    ]
