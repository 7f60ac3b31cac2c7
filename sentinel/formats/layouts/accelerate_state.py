"""A directory of accelerate's `save_state`: a whole model, its optimizer, and random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats.draft import Draft
from sentinel.formats.layouts.accelerate_parts import (
    MARK,
    OPTIMIZER,
    PICKLED_MODEL,
    holds_weights,
    read_parts,
    stat_components,
    stat_parts,
)
from sentinel.formats.layouts.base import directories_at, files_at
from sentinel.formats.layouts.components import Component, components_at
from sentinel.formats.naming import step_of_path
from sentinel.formats.nested import MODEL as MODEL_SHARDS
from sentinel.formats.nested import stat_nested
from sentinel.formats.shards import has_weights

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "accelerate-state"


def recognise(place: Place) -> Candidate | None:
    """Take a directory with random states, or with a model and accelerate's optimizer."""
    has_model = has_weights(place.files) or PICKLED_MODEL in place.files
    is_sharded = MODEL_SHARDS in place.directories
    if MARK in place.files or (has_model and OPTIMIZER in place.files) or is_sharded:
        return place.candidate(NAME)
    return None


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that `load_state` or the script's own hooks would read."""
    files, directories = files_at(path), directories_at(path)
    return (
        *stat_parts(path, files),
        *stat_nested(path, directories),
        *stat_components(path, _models(path, files, directories)),
    )


def complete(path: Path) -> bool | None:
    """Tell whether the random states, written last, are there."""
    return MARK in files_at(path)


def read(path: Path) -> Checkpoint:
    """Read the headers of the weights and what the optimizer's file says of itself."""
    draft = Draft(path)
    files = files_at(path)
    directories = directories_at(path)
    read_parts(draft, files, directories, _models(path, files, directories))
    return draft.finish(
        path,
        NAME,
        complete=MARK in files,
        trainer="accelerate",
        step=step_of_path(path),
        saved_as_trained=True,
    )


def _models(
    path: Path, files: frozenset[str], directories: frozenset[str]
) -> tuple[Component, ...]:
    """Return the models in folders of their own, where none lies in the directory itself."""
    is_elsewhere = holds_weights(files) or MODEL_SHARDS in directories
    return () if is_elsewhere else components_at(path)
