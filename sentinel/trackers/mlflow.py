"""Metrics and tags in MLflow: in the training's own run where it can be told which that is."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sentinel.alerting import Tracker
from sentinel.errors import ConfigError
from sentinel.trackers.places import mlflow_store
from sentinel.trackers.point import PREFIX, Point

OUTPUT_PARAMETERS = ("output_dir", "logging_dir")
"""Where Transformers' callback writes the training's directory, its arguments being parameters."""

_OURS = "sentinel.run_id"
_TAG_CHARACTERS = 5000  # https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html


class MlflowRun:
    """One run of MLflow's; needs ``mlflow`` or ``mlflow-skinny``."""

    def __init__(self, settings: Tracker, state: Path, first: Point) -> None:  # noqa: ARG002
        from mlflow import MlflowClient  # noqa: PLC0415 - an extra

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = settings.uri or mlflow_store(first.place, Path.cwd(), os.environ)
        if uri is None:
            raise ConfigError(
                "MLflow",
                fact=f"nothing tells where '{first.run}' logs",
                todo="set MLFLOW_TRACKING_URI, or `uri` in sentinel.yaml",
            )
        self._client = MlflowClient(tracking_uri=uri)
        told = settings.run_id or os.environ.get("MLFLOW_RUN_ID")
        self._run_id = told or self._found(first) or self._own(first)
        self.hint = f"MLflow: verdicts of '{first.run}' are written into run {self._run_id}"

    def write(self, point: Point) -> None:
        """Write a point."""
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415

        at_ms = round(point.at_s * 1000)
        self._client.log_batch(
            self._run_id,
            metrics=[
                Metric(f"{PREFIX}{name}", value, at_ms, point.step)
                for name, value in point.values.items()
            ],
            tags=[
                RunTag(f"{PREFIX}{name}", value[:_TAG_CHARACTERS])
                for name, value in point.tags.items()
            ],
        )

    def close(self) -> None:
        """Leave the run as it is: it is the training's, and a restart goes on with ours."""

    def _found(self, point: Point) -> str | None:
        """Return the newest run whose parameters name the directory of the checkpoints."""
        experiments = [one.experiment_id for one in self._client.search_experiments()]
        for run in self._search(experiments, f"tags.`{_OURS}` = '{point.run_id}'"):
            return str(run.info.run_id)
        for name in _spellings(point.place):
            for parameter in OUTPUT_PARAMETERS:
                for run in self._search(experiments, f"params.{parameter} = '{name}'"):
                    return str(run.info.run_id)
        return None

    def _search(self, experiments: list[str], wanted: str) -> list[Any]:
        newest = ["attributes.start_time DESC"]
        return list(self._client.search_runs(experiments, wanted, order_by=newest, max_results=1))

    def _own(self, point: Point) -> str:
        """Make a run of our own, in the experiment that the environment names."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        known = self._client.get_experiment_by_name(name) if name else None
        experiment = known.experiment_id if known else "0"
        tags = {_OURS: point.run_id, "mlflow.runName": f"sentinel {point.run}"}
        return str(self._client.create_run(experiment, tags=tags).info.run_id)


def _spellings(place: Path) -> list[str]:
    """Return how a command line may have named a directory, as far as a filter can quote it."""
    here = Path.cwd()
    names = [str(place)]
    if place.is_relative_to(here):
        below = str(place.relative_to(here))
        names += [below, f"./{below}"]
    return [name for spelled in names for name in (spelled, f"{spelled}/") if "'" not in name]
