"""Writing points in a process of its own: the trackers' libraries are imported there alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Protocol

from sentinel.alerting import Tracker, TrackerName
from sentinel.trackers.point import Point


class Opened(Protocol):
    """A tracker's run that is written to; ``hint`` says where it is to be seen."""

    hint: str

    def write(self, point: Point) -> None:
        """Write a point."""

    def close(self) -> None:
        """Bring what was written to its end."""


KINDS: Mapping[TrackerName, tuple[str, str]] = {
    "tensorboard": ("sentinel.trackers.tensorboard", "EventFiles"),
    "mlflow": ("sentinel.trackers.mlflow", "MlflowRun"),
    "wandb": ("sentinel.trackers.wandb", "OfflineRun"),
}
"""By name: the module of each is imported when it is used, and with it the library."""

_OPEN: dict[str, Opened] = {}


def write(settings: Tracker, state: Path, point: Point) -> str:
    """Write a point into its run, opened at the first; return what is to be said of it then."""
    opened = _OPEN.get(point.run_id)
    hint = ""
    if opened is None:
        module, name = KINDS[settings.to]
        opened = getattr(import_module(module), name)(settings, state, point)
        hint, _OPEN[point.run_id] = opened.hint, opened
    opened.write(point)
    return hint


def finish() -> None:
    """Close all that was opened."""
    while _OPEN:
        _, opened = _OPEN.popitem()
        opened.close()
