"""Everything `sentinel doctor` tells, gathered in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sentinel.machine.device import Gpu, Processor, device_settings, gpus, processor
from sentinel.machine.limits import Disk, WatchLimits, disk_at, watch_limits
from sentinel.machine.packages import python_here, version_settings, versions_here, versions_of


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine and an environment on it are.

    ``python`` is the interpreter that was asked, None for the running one; ``versions`` are those
    of the distributions installed for it. ``places`` are where sentinel keeps state and log.
    """

    gpus: tuple[Gpu, ...]
    processor: Processor
    python: Path | None
    python_version: str
    versions: Mapping[str, str]
    places: Mapping[str, Path]
    disks: Mapping[str, Disk | None]
    watches: WatchLimits
    settings: Mapping[str, str | bool]


def examine(places: Mapping[str, Path], python: Path | None = None) -> Machine:
    """Look at this machine, and at the environment of ``python``, else at the running one.

    Raises ConfigError when ``python`` does not answer.
    """
    if python is None:
        version, found = python_here(), versions_here()
    else:
        version, found = versions_of(python)
    return Machine(
        gpus=gpus(),
        processor=processor(),
        python=python,
        python_version=version,
        versions=found,
        places=places,
        disks={name: disk_at(path) for name, path in places.items()},
        watches=watch_limits(),
        settings={**device_settings(), **version_settings(found)},
    )
