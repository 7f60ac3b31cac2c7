"""Any other file or set of shards with tensors: plain tensors, reported as an unknown layout.

Found below a path are safetensors files only, since `.pt` and `.bin` may be anything; named by
the user, a file is read whatever it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.on_demand import NUMPY_SUFFIXES, TORCH_SUFFIXES
from sentinel.formats.distributed import is_distributed, read_distributed
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import files_at, place_at
from sentinel.formats.naming import COMPANIONS, shard_of, step_of_path
from sentinel.formats.shards import read_shard_set
from sentinel.regular import is_directory

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "unknown"
SUFFIX = ".safetensors"


def recognise(place: Place) -> Candidate | None:
    """Take any file that calls itself safetensors, but for what only goes with another one."""
    if place.is_directory or not place.path.name.endswith(SUFFIX):
        return None
    if place.path.parent.name.endswith(f"{SUFFIX}{COMPANIONS}"):
        return None
    return place.candidate(NAME)


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file, or at all shards of its set that are there."""
    found = []
    for name in _set_of(path):
        try:
            found.append(stat_member(path.parent, name, "weights"))
        except InputError:
            continue
    return tuple(found)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: a bare file has no mark."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the headers; a directory has none and only its fault is told."""
    draft = Draft(path.parent)
    shard = shard_of(path.name)
    if is_directory(path):
        draft = _directory(path)
    elif shard:
        read_shard_set(draft, _set_of(path), shard.stem)
    elif path.suffix.lower() in TORCH_SUFFIXES:
        draft.read_torch(path.name)
    elif path.suffix.lower() in NUMPY_SUFFIXES:
        draft.read_arrays(path.name)
    else:
        draft.read_tensors(path.name)
    return draft.finish(path, NAME, complete=None, step=step_of_path(path))


def _directory(path: Path) -> Draft:
    draft = Draft(path)
    try:
        files = place_at(path).files
    except InputError as error:
        draft.fault(error, "weights", "")
        return draft
    if is_distributed(files):
        # A part of a checkpoint, named by the user.
        read_distributed(draft)
    else:
        draft.missing_weights("file of a layout that sentinel knows")
    return draft


def _set_of(path: Path) -> tuple[str, ...]:
    shard = shard_of(path.name)
    if shard is None:
        return (path.name,)
    siblings = ((name, shard_of(name)) for name in files_at(path.parent))
    return tuple(
        sorted(
            name
            for name, other in siblings
            if other
            and (other.stem, other.count, other.suffix) == (shard.stem, shard.count, shard.suffix)
        )
    )
