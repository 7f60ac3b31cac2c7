"""How much room this machine leaves: disk, and how many directories it lets be watched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_INOTIFY = Path("/proc/sys/fs/inotify")


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system under a path, in bytes."""

    path: Path
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """How many watches and inotify instances a user may have; None where there are none."""

    watches: int | None
    instances: int | None


def disk_at(path: Path) -> Disk | None:
    """Return the file system that a path lies or would lie on, None when nobody tells."""
    for directory in (path, *path.absolute().parents):
        try:
            usage = shutil.disk_usage(directory)
        except OSError:
            continue
        return Disk(directory, usage.free, usage.total)
    return None


def watch_limits() -> WatchLimits:
    """Return the limits of inotify (https://man7.org/linux/man-pages/man7/inotify.7.html)."""
    return WatchLimits(_limit("max_user_watches"), _limit("max_user_instances"))


def _limit(name: str) -> int | None:
    try:
        return int((_INOTIFY / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
