"""Pins: copies of good checkpoints, kept where no trainer's rotation reaches them.

A pin is `STORE/<run id>/<checkpoint id>/`: the checkpoint under its own name, and a manifest with
a digest of every file. It gets that name when it is whole and never before; whatever begins with
a dot beside it was begun by somebody who was killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Literal

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from sentinel.errors import InputError, RepairError, StateError
from sentinel.health.identity import require_part_name, require_run_id
from sentinel.regular import open_file
from sentinel.storage import sync_directory

MANIFEST = "pin.json"
BLOCK_BYTES = 4 << 20
SCHEMA = 1

_PARTIAL = ".{}.partial"
_DROPPED = ".{}.dropped"
_LONGEST_MANIFEST_BYTES = 16 << 20

How = Literal["reflink", "copy"]


class AbandonedError(Exception):
    """The reading was given up, as the caller asked for."""


class PinnedFile(BaseModel):
    """One file of a pin, relative to its content; ``digest`` is the xxh3-128 of its bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    size_bytes: int
    digest: str


class Manifest(BaseModel):
    """What `pin.json` says. ``name`` is that of the checkpoint, ``source`` where it lay."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int
    run_id: str
    attempt: int
    checkpoint_id: str
    seq: int
    step: int | None
    name: str
    source: str
    how: How
    pinned_at: datetime
    files: tuple[PinnedFile, ...]


@dataclass(frozen=True, slots=True)
class Pin:
    """A whole pin: its manifest, and ``place``, the directory that holds it and the copy."""

    manifest: Manifest
    place: Path

    @property
    def path(self) -> Path:
        """Return the pinned checkpoint, which a trainer may be given."""
        return self.place / self.manifest.name

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all its files; a reflink shares them until the original goes."""
        return sum(file.size_bytes for file in self.manifest.files)


class PinStore:
    """The pins below one directory; nothing is remembered that does not lie there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pins(self, run_id: str | None = None) -> list[Pin]:
        """Return the whole pins of a run, or of all, oldest first."""
        runs = _directories(self.root) if run_id is None else [self.root / require_run_id(run_id)]
        found = (_pin_at(place) for run in runs for place in _directories(run))
        return sorted((pin for pin in found if pin is not None), key=_age)

    def find(self, run_id: str, checkpoint_id: str) -> Pin | None:
        """Return the pin of one checkpoint, None when there is none."""
        return _pin_at(self.place(run_id, checkpoint_id))

    def at(self, path: Path) -> Pin | None:
        """Return the pin whose checkpoint a path is, None for a path that is none's."""
        return _pin_at(path.parent) if path.is_relative_to(self.root) else None

    def place(self, run_id: str, checkpoint_id: str) -> Path:
        """Return where the pin of a checkpoint lies or would lie."""
        return self.root / require_run_id(run_id) / require_part_name(checkpoint_id)

    def partial(self, run_id: str, checkpoint_id: str) -> Path:
        """Return where a pin lies while it is being made."""
        return self.place(run_id, checkpoint_id).with_name(_PARTIAL.format(checkpoint_id))

    def drop(self, pin: Pin) -> None:
        """Remove a pin; raises StateError. Killed in between, it is no pin any more."""
        away = pin.place.with_name(_DROPPED.format(pin.place.name))
        try:
            shutil.rmtree(away, ignore_errors=True)
            pin.place.rename(away)  # half a pin under its real name would be taken for a whole
            shutil.rmtree(away)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(
                "pin",
                where=f"'{pin.place}'",
                fact=f"cannot be removed ({error.strerror or error})",
                todo="check the permissions of its directory",
            ) from error
        with suppress(OSError):
            pin.place.parent.rmdir()  # the run's last pin is gone

    def sweep(self, run_id: str) -> None:
        """Remove what was begun and not finished; only for who holds the run's lock."""
        for left in (self.root / require_run_id(run_id)).glob(".*"):
            shutil.rmtree(left, ignore_errors=True)


def check(pin: Pin) -> None:
    """Read a pin and compare it with its digests; raises RepairError when it is not as pinned."""
    for file in pin.manifest.files:
        path = pin.place / file.path
        try:
            size_bytes, digest = digest_of(path)
        except OSError as error:
            raise _broken(pin, f"'{file.path}' cannot be read ({error.strerror})") from error
        if (size_bytes, digest) != (file.size_bytes, file.digest):
            raise _broken(pin, f"'{file.path}' is not what was pinned")


def digest_of(path: Path, stopped: Callable[[], bool] = lambda: False) -> tuple[int, str]:
    """Return how many bytes a file has, and their xxh3-128.

    Raises OSError or InputError, and AbandonedError once ``stopped``, which is asked before each
    block, says so.
    """
    with open_file(path) as file:
        return read_blocks(file, stopped, lambda _: None)


def read_blocks(
    file: FileIO, stopped: Callable[[], bool], taken: Callable[[memoryview], None]
) -> tuple[int, str]:
    """Give a file's blocks to ``taken``; return their bytes and digest as `digest_of` does."""
    hasher, size_bytes, block = xxhash.xxh3_128(), 0, memoryview(bytearray(BLOCK_BYTES))
    while not stopped() and (count := file.readinto(block)):
        hasher.update(block[:count])
        size_bytes += count
        taken(block[:count])
    if stopped():
        raise AbandonedError
    return size_bytes, hasher.hexdigest()


def publish(partial: Path, manifest: Manifest, place: Path) -> Pin:
    """Give a whole copy its real name, durably; raises OSError."""
    path = partial / MANIFEST
    with path.open("wb") as file:
        file.write(manifest.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())
    for directory, _, _ in os.walk(partial):
        sync_directory(Path(directory))
    partial.rename(place)
    sync_directory(place.parent)
    return Pin(manifest, place)


def _broken(pin: Pin, fact: str) -> RepairError:
    return RepairError(
        "pin",
        where=f"'{pin.place}'",
        fact=fact,
        todo="it is not used; remove it with `sentinel pins --drop`",
    )


def _pin_at(place: Path) -> Pin | None:
    """Return what lies there when it is a pin whose manifest can be believed."""
    try:
        with open_file(place / MANIFEST) as file:
            manifest = Manifest.model_validate_json(file.read(_LONGEST_MANIFEST_BYTES))
    except (OSError, InputError, ValidationError):
        return None
    inside = all(_is_inside(file.path) for file in manifest.files) and _is_inside(manifest.name)
    known = manifest.schema_version == SCHEMA and manifest.checkpoint_id == place.name
    return Pin(manifest, place) if inside and known else None


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts


def _directories(path: Path) -> Iterator[Path]:
    try:
        found = sorted(path.iterdir())
    except OSError:
        return
    yield from (place for place in found if not place.name.startswith("."))


def _age(pin: Pin) -> tuple[str, int, datetime]:
    return (pin.manifest.run_id, pin.manifest.seq, pin.manifest.pinned_at)
