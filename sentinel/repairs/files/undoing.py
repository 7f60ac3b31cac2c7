"""Taking a copy away again: only what its receipt lists, and only where it is as it was written.

What was changed since, and what came in addition, stays and is told. Nothing is taken away while
the original is not there as it was: the copy would then be all there is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, RepairError
from sentinel.repairs.files.digests import digest_of
from sentinel.repairs.files.receipts import NAME, read_receipt
from sentinel.storage import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.repairs.files.receipts import Written


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of a copy: files removed, those that were gone, those that stay as changed.

    ``added`` are files in its directory that no receipt lists.
    """

    root: Path
    removed: tuple[str, ...]
    gone: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing of the copy is left."""
        return not self.changed and not self.added


def undo(path: Path, *, dry_run: bool = False) -> Undone:
    """Take away the copy that a receipt is about; ``path`` may be the copy's directory too.

    Doing it again after a kill goes on where it stopped: the receipt goes last, and only when
    nothing else is left. Raises RepairError for what is no receipt, and when the original is gone
    or changed.
    """
    place = path.absolute()
    written = read_receipt(place / NAME if place.is_dir() else place)
    _refuse_alone(written)
    states = {name: _state(written.root / name, digest) for name, digest in written.files.items()}
    removed = tuple(name for name, state in states.items() if state == "same")
    found = Undone(
        root=written.root,
        removed=removed,
        gone=tuple(name for name, state in states.items() if state == "gone"),
        changed=tuple(name for name, state in states.items() if state == "changed"),
        added=_added(written),
    )
    if not dry_run:
        _remove(written, removed, is_clean=found.is_clean)
    return found


def _refuse_alone(written: Written) -> None:
    for name, digest in written.originals.items():
        state = _state(written.source_root / name, digest)
        if state != "same":
            is_now = "is gone" if state == "gone" else "is not what it was"
            raise RepairError(
                f"copy '{path_text(written.root)}'",
                fact=f"is not taken away: '{path_text(written.source_root / name)}', which it was"
                f" made from, {is_now}",
                todo="delete the copy by hand if nobody needs it",
            )


def _state(path: Path, digest: str) -> str:
    """Return whether a file is still the one that was written: same, changed or gone."""
    if not os.path.lexists(path):
        return "gone"
    try:
        return "same" if not path.is_symlink() and digest_of(path) == digest else "changed"
    except InputError:
        return "changed"


def _added(written: Written) -> tuple[str, ...]:
    """Return what lies in the copy's directory and was not written with it."""
    if not written.is_directory:
        return ()
    found = []
    for directory, _below, names in os.walk(written.root):
        inside = os.path.relpath(directory, written.root).replace(os.sep, "/")
        found += [name if inside == "." else f"{inside}/{name}" for name in names]
    return tuple(sorted(set(found) - set(written.files) - {NAME}))


def _remove(written: Written, names: tuple[str, ...], *, is_clean: bool) -> None:
    try:
        for name in names:
            (written.root / name).unlink()
        if is_clean:
            written.receipt.unlink()
        _remove_directories(written, is_clean=is_clean)
    except OSError as error:
        raise RepairError(
            f"copy '{path_text(written.root)}'",
            fact=f"cannot be taken away ({error.strerror})",
            todo="check its permissions, and undo it again",
        ) from error


def _remove_directories(written: Written, *, is_clean: bool) -> None:
    """Remove the directories that the copy made and that are empty now."""
    inner = {parent for name in written.files for parent in (written.root / name).parents}
    below = [one for one in inner if one != written.root and one.is_relative_to(written.root)]
    last = [written.root] if written.is_directory and is_clean else []
    for directory in (*sorted(below, key=lambda one: -len(one.parts)), *last):
        _remove_empty(directory)
    if is_clean:
        for directory in written.made_directories:
            _remove_empty(directory)
    if written.root.exists():
        sync_directory(written.root)


def _remove_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
