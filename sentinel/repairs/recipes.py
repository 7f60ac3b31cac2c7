"""Recipes: how one trainer is told what to do, read from YAML; no trainer's name is in code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sentinel.errors import RepairError
from sentinel.rules.files import catalogue

Precision = Literal["fp32", "bf16", "fp16"]
Value = bool | int | float | str | None
Fields = dict[str, Value]
"""What the trainer's fields become; null takes one away.

A name that begins with `--` is an option of the command whatever else holds fields; one that ends
in `?` is changed only where the user told it.
"""

ONE_FILE = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf"})
"""How the name of a checkpoint ends that is one file; any other is a directory."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Configuration(_Frozen):
    """The file of settings that a command names, and how it is told another one.

    It is what ``option`` names, or the first plain word that ends in one of ``suffixes``, or what
    one of the variables in ``environment`` names, else the first of ``default`` that lies there.
    What is named may stand for a file at one of ``places``; with ``directory`` the name is that of
    the directory, and the file in it keeps its own.
    """

    option: str | None = None
    suffixes: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    places: tuple[str, ...] = ("{told}",)
    default: tuple[str, ...] = ()
    directory: bool = False
    sections: bool = True


class Output(_Frozen):
    """Where checkpoints lie: the directory in ``field``, and in it the one named by ``below``."""

    field: str
    default: str | None = None
    below: str | None = None


class Picks(_Frozen):
    """What the trainer begins from by itself: what a field says, a path or its latest one."""

    field: str | None = None
    default: Value = None


class Route(_Frozen):
    """One way to begin from a checkpoint.

    ``fields`` may hold ``{checkpoint}`` (the path to begin from), ``{name}`` (its last part) and
    ``{weights}`` (the file of weights in it). A copy goes to ``copy_to`` in the fresh directory
    without the files of ``leave_out`` (patterns); without ``copy_to`` it is read where it lies.
    ``directory`` says that only a checkpoint that is a directory will do. ``says`` is what the
    user ought to know.
    """

    fields: Fields = Field(default_factory=dict)
    copy_to: str | None = None
    leave_out: tuple[str, ...] = ()
    directory: bool = False
    says: str = ""


class Resume(_Frozen):
    """How the trainer is started again: ``into`` its own directory or a fresh one.

    ``keep`` is with the saved optimizer state, ``drop`` without it, ``restart`` from step 0. A
    trainer that has neither of the first two cannot resume. ``shared`` is a file beside the saves
    that belongs to the newest of them: it leaves with that one.
    """

    into: Literal["same", "new"] = "same"
    keep: Route | None = None
    drop: Route | None = None
    restart: Route = Field(default_factory=Route)
    weights: str = ""
    shared: str = ""


class Change(_Frozen):
    """How one setting is changed: the field that holds it, and the trainer's names for values.

    ``{name}`` in ``field`` is the setting's last part. With ``pairs`` the field holds arguments
    by name: as ``text`` (`a=1,b=2`), as a ``list`` of such texts, or as a ``mapping``. ``also`` are
    fields that would win over it: they are taken away.
    """

    field: str
    values: dict[str, Value] = Field(default_factory=dict)
    pairs: Literal["text", "list", "mapping"] | None = None
    also: tuple[str, ...] = ()


class Effect(_Frozen):
    """The settings of the next checkpoint that show two precisions.

    ``precision`` is that of what is trained, ``compute`` that of the forward pass.
    """

    precision: str | None = None
    compute: str | None = None


class Recipe(_Frozen):
    """How one trainer is recognised, resumed and given other settings."""

    id: str
    title: str
    reads: str | None = None
    recognise: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    configuration: Configuration = Field(default_factory=Configuration)
    changes: Literal["copy", "command"] = "copy"
    assignments: str | None = None
    flags: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    output: Output | None = None
    picks: Picks = Field(default_factory=Picks)
    precision: dict[Precision, Fields] = Field(default_factory=dict)
    compute: dict[Precision, Fields] = Field(default_factory=dict)
    settings: dict[str, Change] = Field(default_factory=dict)
    resume: Resume = Field(default_factory=Resume)
    effect: Effect = Field(default_factory=Effect)
    exit_codes: dict[int, str] = Field(default_factory=dict)

    def change_of(self, setting: str) -> Change | None:
        """Return how a setting is changed, None when this trainer cannot be told it."""
        family = f"{setting.rpartition('.')[0]}.*"
        return self.settings.get(setting) or self.settings.get(family)


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
