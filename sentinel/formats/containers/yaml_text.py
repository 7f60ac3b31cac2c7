"""YAML files that trainers leave beside checkpoints: bounded, every mistake an InputError.

Only plain data is built. Anchors are refused: a few lines of them can stand for more than any
memory holds, and no trainer needs them to write its settings down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import yaml

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

YAML_LIMIT_BYTES = 1024 * 1024


class _PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse what stands for something written elsewhere."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to anchors")
        return super().compose_node(parent, index)


def read_yaml_object(path: Path, *, limit_bytes: int = YAML_LIMIT_BYTES) -> Mapping[str, object]:
    """Return the mapping a YAML file holds; raises InputError for everything else."""
    with open_regular(path) as (file, size_bytes):
        if size_bytes > limit_bytes:
            _refuse(path, f"is {size_bytes} bytes long, the limit for YAML is {limit_bytes}")
        raw = file.read(limit_bytes + 1)
    try:
        value = yaml.load(raw.decode("utf-8"), _PlainLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        _refuse(path, f"is no YAML that is read here ({str(error)[:200]})")
    if not isinstance(value, dict):
        _refuse(path, "holds no YAML mapping")
    return value


def _refuse(path: Path, fact: str) -> NoReturn:
    raise InputError(f"file '{path_text(path)}'", fact=fact, todo="check what wrote it")
