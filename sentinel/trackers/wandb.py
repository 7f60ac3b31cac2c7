"""Offline runs of Weights & Biases, in the project and group of the training's own.

They lie in the state directory; nothing is sent before the user says `wandb sync`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sentinel.alerting import Tracker
from sentinel.trackers.places import wandb_run
from sentinel.trackers.point import ATTEMPT, PREFIX, STEP, Point
from sentinel.trackers.wandb_file import project_and_group

PROJECT = "sentinel"
"""Where nothing tells the training's."""


class OfflineRun:
    """One offline run; needs ``wandb``."""

    def __init__(self, settings: Tracker, state: Path, first: Point) -> None:
        import wandb  # noqa: PLC0415 - an extra

        beside = wandb_run(first.place, Path.cwd(), os.environ)
        project, group = project_and_group(beside[0]) if beside else (None, None)
        told = (settings.project, os.environ.get("WANDB_PROJECT"), project, PROJECT)
        grouped = (settings.group, os.environ.get("WANDB_RUN_GROUP"), group)
        directory = settings.directory or state / "wandb-runs"
        directory.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            mode="offline",
            dir=str(directory),
            project=next(filter(None, told)),
            # A group of the training's own run where it has none: the two stand side by side.
            group=next(filter(None, (*grouped, beside[1] if beside else None, first.run))),
            job_type="sentinel",
            name=f"sentinel {first.run}",
            config={"sentinel.run_id": first.run_id, "training": beside[1] if beside else None},
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True,
                x_disable_stats=True,
            ),
        )  # fmt: skip
        # A repair goes back to an earlier step, which W&B's own may not: ours is the axis.
        self._run.define_metric(f"{PREFIX}{STEP}")
        self._run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}{STEP}")
        self.hint = f"W&B: wandb sync '{Path(self._run.dir).parent}'"

    def write(self, point: Point) -> None:
        """Write a point."""
        values = {STEP: float(point.step), ATTEMPT: float(point.attempt), **point.values}
        if point.values:
            self._run.log({f"{PREFIX}{name}": value for name, value in values.items()})
        for name, value in point.tags.items():
            self._run.summary[f"{PREFIX}{name}"] = value

    def close(self) -> None:
        """Finish the run's file."""
        self._run.finish()
