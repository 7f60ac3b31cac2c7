"""A whole model as Transformers' `save_pretrained` writes it: `config.json` and the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import files_at
from sentinel.formats.layouts.parts import MODEL_CONFIG, holds_weights, read_all, stat_parts
from sentinel.formats.naming import step_of_path
from sentinel.formats.shards import has_weights, is_indexed

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "transformers-model"


def recognise(place: Place) -> Candidate | None:
    """Take a directory with a model's description and weights."""
    if MODEL_CONFIG in place.files and holds_weights(place.files):
        return place.candidate(NAME)
    return None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the weights and the description."""
    return stat_parts(path, files_at(path))


def complete(path: Path) -> bool | None:
    """Tell whether the index of the shards, written last, is there; None for a single file."""
    files = files_at(path)
    return is_indexed(files) if has_weights(files) else None


def read(path: Path) -> Checkpoint:
    """Read the headers of all the weights and the model's description."""
    draft = Draft(path)
    _adapter, settings = read_all(draft, files_at(path))
    return draft.finish(
        path, NAME, complete=complete(path), step=step_of_path(path), settings=settings
    )
