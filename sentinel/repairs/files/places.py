"""Where a copy goes: never into the directory that its trainer looks through.

Trainers take the latest of whatever lies in theirs by name, time of change or number, and delete
the oldest by the same; diffusers' scripts and SimpleTuner stop at a `checkpoint-...` without a
number.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, RepairError
from sentinel.formats.files import list_directory
from sentinel.formats.naming import step_of
from sentinel.formats.opening import candidate_at
from sentinel.repairs.files.keeping import KEPT, Keeping

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint

SUFFIX = "-repaired"
_BACKUPS = "backup"
_MOST_TRIES = 1000


def default_target(checkpoint: Checkpoint, keeping: Keeping) -> Path:
    """Return a free place for a copy: the checkpoint's own name, in a new directory.

    That lies beside the directory its trainer writes to: ``out/checkpoint-300`` goes to
    ``out-repaired/checkpoint-300``, a directory that is no trainer's to ``adapter-repaired``.
    """
    path = checkpoint.path.absolute()
    around = path.parent
    while around.parent != around and step_of(around.name) is not None:
        around = around.parent
    is_alone = checkpoint.root == checkpoint.path and not keeping.by_name and around == path.parent
    if is_alone and step_of(path.name) is None and not _holds_steps(around):
        return _free(path, Path())
    if keeping is KEPT["onetrainer-backup"] and around.name == _BACKUPS:
        return _free(around.parent, Path(_BACKUPS, path.name))
    return _free(around, Path(path.name))


def check_target(checkpoint: Checkpoint, keeping: Keeping, target: Path) -> None:
    """Refuse a place where something lies, or where the copy would disturb.

    Raises RepairError.
    """
    source = checkpoint.path.resolve()
    place = target.parent.resolve() / target.name
    fact = ""
    if os.path.lexists(target):
        fact = "is already there, and nothing is overwritten"
    elif place.is_relative_to(source):
        fact = "lies inside the checkpoint itself"
    elif keeping.by_name and place.parent == source.parent:
        fact = "lies beside the original, where its trainer would take it for one of its own"
    elif step_of(place.parent.name) is not None and candidate_at(place.parent) is not None:
        fact = "lies inside another checkpoint"
    if fact:
        raise RepairError(
            f"target '{path_text(target)}'", fact=fact, todo="name another place with --to"
        )


def _holds_steps(directory: Path) -> bool:
    """Tell whether a trainer's checkpoints lie in a directory, by their names."""
    try:
        return any(step_of(name) is not None for name in list_directory(directory)[1])
    except InputError:
        return False


def _free(directory: Path, inside: Path) -> Path:
    """Return the first free place beside a directory, under its own name and a mark."""
    marks = (SUFFIX, *(f"{SUFFIX}-{number}" for number in range(2, _MOST_TRIES)))
    name = directory.name or "checkpoint"
    places = (directory.parent / f"{name}{mark}" / inside for mark in marks)
    return next(place for place in places if not os.path.lexists(place))
