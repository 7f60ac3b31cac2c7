"""An adapter as PEFT's `save_pretrained` writes it: weights first, `adapter_config.json` last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats import adapter_config, training_arguments
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import files_at
from sentinel.formats.layouts.hf_relatives import UNKNOWN, settings_of, trainer_of
from sentinel.formats.layouts.parts import (
    ADAPTER_WEIGHTS,
    MODEL_CONFIG,
    PICKLED_ADAPTER,
    read_all,
    stat_parts,
)
from sentinel.formats.naming import step_of_path

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "peft"

_FILES = frozenset({ADAPTER_WEIGHTS, PICKLED_ADAPTER, adapter_config.NAME})
_READ = _FILES | {training_arguments.NAME}
"""A trainer that saves its last adapter this way leaves its arguments beside it."""


def recognise(place: Place) -> Candidate | None:
    """Take a directory with any of an adapter's files, unless nothing was saved in it yet.

    Axolotl writes the descriptions of adapter and model into its output directory before the
    first step (`save_initial_configs` in its src/axolotl/train.py); PEFT writes weights first, and
    no description of the model.
    """
    only_begun = place.files & _FILES == {adapter_config.NAME} and MODEL_CONFIG in place.files
    return place.candidate(NAME) if place.files & _FILES and not only_begun else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the adapter's files only: the directory may be a trainer's whole output."""
    return stat_parts(path, files_at(path) & _READ)


def complete(path: Path) -> bool | None:
    """Tell whether the description, written last, can be read."""
    try:
        read_json_object(path / adapter_config.NAME)
    except InputError:
        return False
    return True


def read(path: Path) -> Checkpoint:
    """Read the header of the weights and the description.

    A trainer's last save lies in its output directory, between the trainer's own files.
    """
    draft = Draft(path)
    files = files_at(path)
    adapter, settings = read_all(draft, files & _READ)
    trainer = trainer_of(files, (), adapter)
    told = {} if trainer == UNKNOWN else settings_of(path, files)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        trainer=None if trainer == UNKNOWN else trainer,
        step=step_of_path(path),
        adapter=adapter,
        settings={**settings, **told},
        saved_as_trained=True,
    )
