"""A configuration file as it was given: fields by name, or the commands of a script."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.configs.shell import Script, parse_batch, parse_shell
from sentinel.formats.containers.json_text import parse_json_object
from sentinel.formats.containers.yaml_text import YAML_LIMIT_BYTES, parse_yaml
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_BYTES = 4 * 1024 * 1024
"""More than any configuration has; OneTrainer's with all concepts are below 1 MiB."""

_NOTHING: Mapping[str, object] = MappingProxyType({})
_FORMS: Mapping[str, str] = MappingProxyType(
    {
        ".json": "JSON",
        ".yaml": "YAML",
        ".yml": "YAML",
        ".toml": "TOML",
        ".env": "shell",
        ".sh": "shell",
        ".bash": "shell",
        ".zsh": "shell",
        ".bat": "batch",
        ".cmd": "batch",
        ".ps1": "batch",
    }
)


@dataclass(frozen=True, slots=True)
class Given:
    """What a file says: ``fields`` (a mapping's, else none) or ``script``.

    ``form`` is how it is written: JSON, YAML, TOML, shell or batch.
    """

    path: Path
    form: str
    fields: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    script: Script | None = None


def read_given(path: Path) -> Given:
    """Read a configuration file by its suffix, one without a known suffix by its content.

    Raises InputError when it cannot be read, is too large, or not what its name says.
    """
    with open_regular(path) as (file, size_bytes):
        if size_bytes > LIMIT_BYTES:
            _refuse(path, f"is {size_bytes} bytes long, the limit is {LIMIT_BYTES}")
        raw = file.read(LIMIT_BYTES + 1)
    suffix = path.suffix.lower()
    if suffix == ".py":
        _refuse(path, "is a Python program, which is never run", "give its configuration file")
    form = _FORMS.get(suffix)
    text = _text(path, raw)
    if form is not None:
        return _parsed(path, form, text)
    return _sniffed(path, text)


def _text(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        _refuse(path, "is no UTF-8 text", "give the trainer's configuration, or save it as UTF-8")


def _sniffed(path: Path, text: str) -> Given:
    """Read a file whose name tells nothing: the first form in which it holds a mapping."""
    if text.startswith("#!"):
        return _parsed(path, "shell", text)
    for form in ("JSON", "TOML", "YAML"):
        try:
            found = _parsed(path, form, text)
        except InputError:
            continue
        if found.fields:
            return found
    return _parsed(path, "shell", text)


def _parsed(path: Path, form: str, text: str) -> Given:
    if form == "JSON":
        return Given(path, form, parse_json_object(path, text.encode()))
    if form == "TOML":
        return Given(path, form, _toml(path, text))
    if form == "YAML":
        return Given(path, form, _yaml(path, text))
    if form == "batch":
        return Given(path, form, script=parse_batch(text))
    return Given(path, form, script=parse_shell(path, text))


def _yaml(path: Path, text: str) -> Mapping[str, object]:
    if len(text) > YAML_LIMIT_BYTES:
        _refuse(path, f"is longer than {YAML_LIMIT_BYTES} characters, the limit for YAML")
    value = parse_yaml(path, text)
    if not isinstance(value, dict):
        _refuse(path, "holds no YAML mapping")
    return value


def _toml(path: Path, text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _refuse(path, f"is no TOML ({str(error)[:200]})")
    except (RecursionError, ValueError):
        _refuse(path, "is nested too deep for a configuration, or holds a number beyond any")


def _refuse(path: Path, fact: str, todo: str = "check what wrote it") -> NoReturn:
    raise InputError(f"file '{path_text(path)}'", fact=fact, todo=todo)
