"""The TensorBoard event files directly in a directory, whose names are remembered for a moment.

They end in a machine's name and a process's number, so a directory must be listed to find them;
and the directory that holds a run's checkpoints is asked about once for each of them. So one
that did not change since is not listed again.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

from sentinel.errors import InputError
from sentinel.formats.containers.on_demand import EVENTS_PREFIX
from sentinel.formats.files import list_directory
from sentinel.remote.paths import is_remote

KEPT_S = 10.0
"""How long names are remembered at most: some mounted object stores never change a directory's
time."""

_SETTLED_NS = 2_000_000_000
"""A directory changed a moment ago may change again without its time telling so: the coarsest
clock of a file system in use (FAT's) ticks every two seconds."""

_DIRECTORIES = 64


def event_files_of(directory: Path) -> tuple[Path, ...]:
    """Return the event files directly in a directory, sorted; none when it cannot be listed."""
    if is_remote(directory):
        return tuple(directory / name for name in _remote_names(directory))
    try:
        status = os.stat(directory)  # noqa: PTH116 - as `os.scandir`, and for each checkpoint
        is_settled = status.st_mtime_ns < time.time_ns() - _SETTLED_NS
        names = (
            _kept_names(
                str(directory),
                (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns),
                time.monotonic() // KEPT_S,
            )
            if is_settled
            else _names(str(directory))
        )
    except OSError:
        return ()
    return tuple(directory / name for name in names)


@lru_cache(maxsize=_DIRECTORIES)
def _kept_names(
    directory: str,
    _as_of: tuple[int, int, int, int],
    _while: float,
) -> tuple[str, ...]:
    return _names(directory)


def _names(directory: str) -> tuple[str, ...]:
    with os.scandir(directory) as entries:
        found = [entry for entry in entries if entry.name.startswith(EVENTS_PREFIX)]
        return tuple(sorted(entry.name for entry in found if not entry.is_dir()))


def _remote_names(directory: Path) -> tuple[str, ...]:
    try:
        files, _ = list_directory(directory)
    except InputError:
        return ()
    return tuple(name for name in files if name.startswith(EVENTS_PREFIX))
