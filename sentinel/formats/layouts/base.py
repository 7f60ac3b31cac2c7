"""What a layout is: a module that knows one way in which a checkpoint's files lie together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from sentinel.errors import InputError
from sentinel.formats.containers.safetensors import SafetensorsHeader, read_safetensors_header
from sentinel.formats.files import list_directory, stat_member
from sentinel.formats.naming import group_of, shard_of, step_of_path
from sentinel.regular import is_directory

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member

SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path that looks like a checkpoint; only its name, its neighbours and a header were seen.

    ``group`` names the run it seems to belong to, ``step`` orders it inside that run (None:
    nothing tells, it comes last).
    """

    path: Path
    layout: str
    group: str
    step: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """A path offered to the layouts: a directory with the names in it, or a single file."""

    path: Path
    is_directory: bool
    files: frozenset[str] = frozenset()
    directories: frozenset[str] = frozenset()
    _header: list[SafetensorsHeader | None] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def header(self) -> SafetensorsHeader | None:
        """Return the header of a file that calls itself safetensors, None when it has none.

        It is read once however many layouts ask. A shard of a larger model counts as none.
        """
        if not self._header:
            self._header.append(self._read_header())
        return self._header[0]

    def _read_header(self) -> SafetensorsHeader | None:
        name = self.path.name
        if self.is_directory or not name.endswith(SUFFIX) or shard_of(name):
            return None
        try:
            return read_safetensors_header(self.path)
        except InputError:
            return None

    def candidate(self, layout: str, *, step: int | None = None) -> Candidate:
        """Return this place as a checkpoint of a layout, with the step its name tells."""
        known = step_of_path(self.path) if step is None else step
        return Candidate(self.path, layout, group_of(self.path), known)


class Layout(Protocol):
    """What a layout's module offers. None of its functions raises for what a file holds."""

    NAME: str
    """The name in reports and in the log."""

    def recognise(self, place: Place) -> Candidate | None:
        """Return the checkpoint this place is, None when it is not of this layout."""

    def members(self, path: Path) -> tuple[Member, ...]:
        """Look at the files again without opening one; files that are gone are left out."""

    def complete(self, path: Path) -> bool | None:
        """Tell whether the mark of a finished write is there; None when the layout has none."""

    def read(self, path: Path) -> Checkpoint:
        """Understand the checkpoint as far as headers and small files go."""


def place_at(path: Path) -> Place:
    """Return what lies at a path; raises InputError when a directory cannot be listed."""
    if not is_directory(path):
        return Place(path, is_directory=False)
    files, directories = list_directory(path)
    return Place(
        path, is_directory=True, files=frozenset(files), directories=frozenset(directories)
    )


def stat_file(path: Path) -> tuple[Member, ...]:
    """Look at the one file of a checkpoint; nothing when it is gone."""
    try:
        return (stat_member(path.parent, path.name, "weights"),)
    except InputError:
        return ()


def files_at(path: Path) -> frozenset[str]:
    """Return the names of the files in a directory, none when it cannot be listed."""
    try:
        return place_at(path).files
    except InputError:
        return frozenset()


def directories_at(path: Path) -> frozenset[str]:
    """Return the names of the directories in a directory, none when it cannot be listed."""
    try:
        return place_at(path).directories
    except InputError:
        return frozenset()
