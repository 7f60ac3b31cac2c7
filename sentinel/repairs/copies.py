"""Copies of a checkpoint in a fresh directory: whole or not at all, and never a hard link.

A link would share the inode with a trainer that rewrites in place, and would change the ctime by
which some trainers choose.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sentinel.errors import RepairError
from sentinel.storage import sync_directory

_BUILDING = ".tmp-"
"""Readers of checkpoints pass over names that begin so."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What is copied where: ``source`` to ``within`` (relative) of a fresh directory.

    ``leave_out`` are patterns of files, by their path in the checkpoint.
    """

    source: Path
    within: str
    leave_out: tuple[str, ...] = ()


def make_fresh(place: Path, copy: Copy | None) -> None:
    """Make the fresh directory ``place``, with a copy in it as its only checkpoint.

    It is built under another name and renamed, so it is there as a whole or not at all; one that
    is there already stays as it is. The original is only read. Raises RepairError when there is
    no room, or the original is gone.
    """
    if place.exists():
        return
    building = place.with_name(f"{_BUILDING}{place.name}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)  # ours, from before a kill
        building.mkdir()
        if copy is not None:
            copy_checkpoint(copy.source, building / copy.within, copy.leave_out)
        os.rename(building, place)  # noqa: PTH104 - a rename and nothing else
        sync_directory(place.parent)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(building, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RepairError(
            "directory",
            where=f"'{place}'",
            fact=f"cannot be made to go on in ({reason})",
            todo="make room there, then start sentinel again",
        ) from error


def copy_checkpoint(source: Path, target: Path, leave_out: Collection[str] = ()) -> None:
    """Copy a checkpoint, file or directory, without what the patterns name; bytes and times.

    Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        _copy_file(source, target)
        return
    target.mkdir()
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if any(fnmatchcase(name.as_posix(), pattern) for pattern in leave_out):
            continue
        if path.is_dir():
            (target / name).mkdir(parents=True, exist_ok=True)
        elif path.is_file():
            _copy_file(path, target / name)
    sync_directory(target)


def _copy_file(source: Path, target: Path) -> None:
    """Copy one file; what a link of the original leads to is copied, no link is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
