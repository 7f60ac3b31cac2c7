"""Finding the checkpoints at or below a path.

A directory that is a checkpoint owns the files in it. Below one that carries a step only an
adapter's own folders are looked into; one without may be a trainer's output folder, with the
last save in it and the steps below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import ConfigError, InputError
from sentinel.formats.files import refusal
from sentinel.formats.layouts import LAYOUTS, peft, plain
from sentinel.formats.layouts.base import Candidate, Place, place_at
from sentinel.formats.naming import is_temporary, shard_of
from sentinel.regular import is_directory, is_there
from sentinel.remote.paths import is_remote

if TYPE_CHECKING:
    from pathlib import Path


_REMOTE_DEPTH = 32
"""A web server may follow links that lead back, which cannot be seen from here."""


def candidate_at(path: Path) -> Candidate | None:
    """Return the checkpoint that this very path is, None when it is none or not there."""
    try:
        place = place_at(path)
    except InputError:
        return None
    try:
        return _recognised(place) if is_there(path) else None
    except OSError:
        return None


def require_there(what: str, path: Path) -> None:
    """Raise ConfigError when nothing lies at a path, UnreadableError when a server does not say."""
    try:
        if is_there(path):
            return
    except OSError as error:
        raise refusal(path, error) from None
    raise ConfigError(
        f"{what} '{path_text(path)}'", fact="does not exist", todo="check its spelling"
    )


def discover(root: Path) -> Iterator[Candidate]:
    """Yield every checkpoint at or below a path, run by run and each run in step order.

    Temporary, hidden and superseded names are skipped below the path, not the path itself; a
    file named by the user is a candidate whatever it is called. A directory that cannot be
    listed is a candidate of the layout ``unknown``, so that opening it says why. Raises
    ConfigError when there is nothing at the path.
    """
    require_there("path", root)
    if is_directory(root):
        yield from _in_order(_Walk().below(root))
        return
    place = Place(root, is_directory=False)
    yield _recognised(place) or place.candidate(plain.NAME)


@dataclass(slots=True)
class _Walk:
    """One walk; ``seen`` holds the directories and linked files met, against loops and doubles."""

    seen: set[tuple[int, int]] = field(default_factory=set)

    def below(self, root: Path) -> Iterator[Candidate]:
        # A link to a directory above leads out of what was asked about, and back to it.
        self.seen.update(key for above in root.resolve().parents if (key := _key(above)))
        # Not by recursion: directories can be nested deeper than calls.
        left = [(root, False)]
        while left:
            path, adapters_only = left.pop()
            if not self._is_new(path) or (is_remote(path) and len(path.parts) > _REMOTE_DEPTH):
                continue
            try:
                place = place_at(path)
            except InputError:
                yield Place(path, is_directory=True).candidate(plain.NAME)
                continue
            found = peft.recognise(place) if adapters_only else _recognised(place)
            if found is not None:
                yield found
            elif not adapters_only:
                yield from self._files(place)
            closed = adapters_only or (found is not None and found.step is not None)
            names = _real_first(place.path, place.directories)
            left.extend((path / name, closed) for name in reversed(names))

    def _files(self, place: Place) -> Iterator[Candidate]:
        later = _later_shards(place.files)
        for name in _real_first(place.path, place.files):
            path = place.path / name
            if name in later:
                continue
            found = _recognised(Place(path, is_directory=False))
            if found is not None and self._is_new(path):
                yield found

    def _is_new(self, path: Path) -> bool:
        """Tell whether a directory or file was not met yet under another name."""
        key = _key(path)
        if key is None:
            # What cannot be looked at is told by whoever opens it.
            return True
        # Hard links are files of their own right: only links that point elsewhere are doubles.
        if key in self.seen and (path.is_symlink() or is_directory(path)):
            return False
        self.seen.add(key)
        return True


def _key(path: Path) -> tuple[int, int] | None:
    if is_remote(path):
        return None  # no links, so no loops
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _recognised(place: Place) -> Candidate | None:
    found = (layout.recognise(place) for layout in LAYOUTS)
    return next((candidate for candidate in found if candidate is not None), None)


def _real_first(parent: Path, names: frozenset[str]) -> list[str]:
    """Return the names that are looked at, sorted, symbolic links after what they may point at."""
    kept = (name for name in names if not is_temporary(name))
    return sorted(kept, key=lambda name: ((parent / name).is_symlink(), name))


def _later_shards(files: Collection[str]) -> frozenset[str]:
    """Return the shards whose set has one with a smaller number here, which stands for all."""
    shards = {name: shard for name in files if (shard := shard_of(name))}
    first: dict[tuple[str, int], int] = {}
    for shard in shards.values():
        key = (shard.stem, shard.count)
        first[key] = min(first.get(key, shard.number), shard.number)
    return frozenset(
        name for name, one in shards.items() if one.number > first[one.stem, one.count]
    )


def _in_order(candidates: Iterator[Candidate]) -> Iterator[Candidate]:
    runs: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        runs.setdefault(candidate.group, []).append(candidate)
    for run in runs.values():
        yield from sorted(run, key=place_in_run)


def place_in_run(candidate: Candidate) -> tuple[bool, int, str]:
    """Return what orders the checkpoints of one run: the step, one without a step last."""
    return (candidate.step is None, candidate.step or 0, str(candidate.path))
