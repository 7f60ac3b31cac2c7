"""Where a checkpoint may be new: the places that hints name, without what has its verdict.

A training may leave a hundred thousand checkpoints behind, so what was judged is remembered by
how its files lie there, and one event costs a listing and no opening of files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.checkpoint import Checkpoint, Identity, Member, identity, path_text
from sentinel.daemon.arrivals import Arrived
from sentinel.errors import SentinelError
from sentinel.formats.layouts import plain
from sentinel.formats.naming import is_temporary, shard_of
from sentinel.formats.opening import Candidate, candidate_at, discover, stat_members


@dataclass(frozen=True, slots=True)
class _Judged:
    """What was found at a path: its layout, and a digest of how its files lay there."""

    layout: str
    lies: bytes


class Candidates:
    """The checkpoints below some roots that are not known to have their verdict.

    ``on_note`` gets a sentence about each place that cannot be looked at, once.
    """

    def __init__(self, on_note: Callable[[str], None]) -> None:
        self._on_note = on_note
        self._noted: set[str] = set()
        self._judged: dict[str, _Judged] = {}

    def found(self, arrived: Arrived, roots: Sequence[Path]) -> list[Candidate]:
        """Return what is to be looked at, however often it is hinted at, each once."""
        found = self._all(roots) if arrived.rescan else self._near(arrived.dirty, roots)
        once_each = {candidate.path: candidate for candidate in found}
        return list(once_each.values())

    def judged(self, candidate: Candidate, lies: Identity) -> None:
        """Remember that a candidate's files need no look while they lie there like this."""
        self._judged[str(candidate.path)] = _Judged(candidate.layout, _digest(lies))

    def _all(self, roots: Sequence[Path]) -> Iterator[Candidate]:
        met: set[str] = set()
        for root in roots:
            for candidate in self._told(root, _discovered(root)):
                met.add(str(candidate.path))
                if not self._is_judged(candidate):
                    yield candidate
        self._judged = {path: known for path, known in self._judged.items() if path in met}

    def _near(self, dirty: Iterable[Path], roots: Sequence[Path]) -> Iterator[Candidate]:
        for directory in sorted(dirty):
            root = next((root for root in roots if _counts(directory, root)), None)
            if root is None or not _is_directory(directory):
                continue
            for candidate in self._told(directory, self._around(directory, root)):
                if not self._is_judged(candidate):
                    yield candidate

    def _around(self, directory: Path, root: Path) -> Iterator[Candidate]:
        """Yield the checkpoints that this directory is, lies in, or has directly below it."""
        chain = [place for place in (directory, *directory.parents) if place.is_relative_to(root)]
        enclosing = [found for place in chain if (found := candidate_at(place)) is not None]
        yield from enclosing
        if any(candidate.step is not None for candidate in enclosing):
            return
        is_checkpoint = any(candidate.path == directory for candidate in enclosing)
        try:
            with os.scandir(directory) as entries:
                names = {entry.name: entry for entry in entries if not is_temporary(entry.name)}
        except OSError:
            yield from discover(directory)  # which gives what may not be listed a name
            return
        for name, entry in sorted(names.items()):
            if _points_inside(entry, root):
                continue
            if entry.is_dir():
                # What changes inside a directory is hinted at by that directory.
                if entry.path not in self._judged:
                    yield from discover(Path(entry.path))
            elif self._lies_as_judged(entry.path):
                continue  # before its header is read: ten thousand may lie beside a new one
            elif not is_checkpoint and not _is_later_shard(name, names):
                found = candidate_at(Path(entry.path))
                if found is not None:
                    yield found

    def _is_judged(self, candidate: Candidate) -> bool:
        known = self._judged.get(str(candidate.path))
        return known is not None and known.lies == _digest(lying(candidate))

    def _lies_as_judged(self, path: str) -> bool:
        """Tell whether a checkpoint lies as it did when it was judged, without asking what it is.

        All its files are looked at: a shard may have come since, or what lies beside the weights.
        """
        known = self._judged.get(path)
        return known is not None and known.lies == _digest(_lying_at(Path(path), known.layout))

    def _told(self, place: Path, found: Iterator[Candidate]) -> Iterator[Candidate]:
        """Pass on what is found; a place that cannot be looked through is told and left."""
        try:
            yield from found
        except (SentinelError, OSError, RecursionError) as error:
            note = f"'{path_text(place)}' cannot be looked through: {error}"
            if os.path.lexists(place) and note not in self._noted:
                self._noted.add(note)
                self._on_note(note)


def is_none_by_now(candidate: Candidate, opened: Checkpoint) -> bool:
    """Tell whether a directory turned out to be no checkpoint, now that more lies in it.

    A trainer that prepares its output directory writes one file after the other. What cannot be
    listed stays a candidate.
    """
    lost_its_layout = candidate.layout != plain.NAME and opened.layout == plain.NAME
    if not lost_its_layout or candidate_at(candidate.path) is not None:
        return False
    return candidate.path.is_dir() and os.access(candidate.path, os.R_OK | os.X_OK)


def lying(candidate: Candidate) -> Identity:
    """Return the identity of a candidate's files, by looking at them without opening one."""
    return _lying_at(candidate.path, candidate.layout)


def _lying_at(path: Path, layout: str) -> Identity:
    return identity_or_own(path, stat_members(path, layout))


def identity_or_own(path: Path, members: tuple[Member, ...]) -> Identity:
    """Return the members' identity; a checkpoint of which no file can be seen has its own."""
    if members:
        return identity(members)
    try:
        status = path.lstat()
    except OSError:
        return ()
    return (("", status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns),)


def _discovered(root: Path) -> Iterator[Candidate]:
    if os.path.lexists(root):
        yield from discover(root)


def _is_directory(path: Path) -> bool:
    # Before Python 3.14 `Path.is_dir` raises where a parent may not be entered.
    return os.path.isdir(path)  # noqa: PTH112


def _counts(directory: Path, root: Path) -> bool:
    """Tell whether a directory lies below a root, and in nothing that is still being written."""
    if not directory.is_relative_to(root):
        return False
    return not any(is_temporary(name) for name in directory.relative_to(root).parts)


def _points_inside(entry: os.DirEntry[str], root: Path) -> bool:
    """Tell whether a link leads to something below the root: that goes by its own name."""
    if not entry.is_symlink():
        return False
    return Path(os.path.realpath(entry.path)).is_relative_to(os.path.realpath(root))


def _is_later_shard(name: str, names: Iterable[str]) -> bool:
    shard = shard_of(name)
    return shard is not None and any(
        shard.sibling(number) in names for number in range(1, shard.number)
    )


def _digest(lies: Identity) -> bytes:
    return hashlib.blake2b(repr(lies).encode(errors="replace"), digest_size=16).digest()
