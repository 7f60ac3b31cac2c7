"""A directory of `torch.distributed.checkpoint.save`: `.distcp` files, then `.metadata`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats.distributed import (
    DESCRIPTION,
    is_distributed,
    read_distributed,
    stat_distributed,
)
from sentinel.formats.distributed_safetensors import read_hf_shards, shards_in, stat_hf_shards
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import files_at
from sentinel.formats.naming import step_of_path
from sentinel.formats.nested import is_nested

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "dcp"


def recognise(place: Place) -> Candidate | None:
    """Take a directory of chunks that is a checkpoint of its own, and no part of another."""
    if not place.is_directory or is_nested(place.path.name):
        return None
    if is_distributed(place.files) or shards_in(place.files):
        return place.candidate(NAME)
    return None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the description and every file of chunks."""
    return stat_distributed(path, "", "weights") or stat_hf_shards(path)


def complete(path: Path) -> bool | None:
    """Tell whether `.metadata`, written last, is there; shards of safetensors have no mark."""
    files = files_at(path)
    return DESCRIPTION in files if is_distributed(files) else None


def read(path: Path) -> Checkpoint:
    """Read the description and the header of every chunk."""
    draft = Draft(path)
    files = files_at(path)
    if is_distributed(files):
        read_distributed(draft)
    else:
        read_hf_shards(draft, files)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        step=step_of_path(path),
        saved_as_trained=True,
    )
