"""What a trainer's configuration is, as a value, and what a reader of one offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

from sentinel.formats.configs.options import Options
from sentinel.formats.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

RESUME = "resume.path"
"""The checkpoint a training goes on from, its optimizer state included."""

ADAPTER = "resume.adapter"
"""The adapter whose weights a training begins with."""

OUTPUT = "training.output_dir"
"""Where checkpoints will lie."""

LATEST: Literal["latest"] = "latest"
"""Stands in `RESUME` for the newest checkpoint in `OUTPUT`."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What a trainer is asked to do, under the names that checkpoints' settings have.

    ``notes`` say what could not be taken into account.
    """

    path: Path
    form: str
    trainer: str
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()


class ConfigReader(Protocol):
    """One trainer's configuration: a module with these names."""

    TRAINER: str
    """As checkpoints name the trainer."""

    LOOKS_FOR: str
    """What makes a file this trainer's, in words."""

    PROGRAMS: frozenset[str]
    """Programs, scripts and modules whose command lines are this trainer's."""

    FILE_OPTIONS: tuple[str, ...]
    """Options of a command that name a configuration file; "" is the first plain word."""

    def fields_of(self, content: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return the fields of a file's content by name, None when it is another trainer's."""

    def fields_of_command(self, options: Options) -> Mapping[str, object]:
        """Return a command's options as fields."""

    def settings_of(self, fields: Mapping[str, object]) -> dict[str, Setting]:
        """Return what the fields tell."""
