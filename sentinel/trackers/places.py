"""Where a training logs, seen from the directory of one of its checkpoints. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sentinel.formats.logs.places import EVENT_DIRECTORIES, bases_of, event_files_in

_RUN_DIRECTORY = re.compile(r"(offline-)?run-\d{8}_\d{6}-(?P<id>[A-Za-z0-9_-]+)")
_LISTED = 1000
_MLFLOW = {"mlflow.db": "sqlite:///{}", "mlruns": "file://{}"}
"""Where MLflow keeps runs when nobody says anything else: today, and before version 3.7."""


def event_directory(place: Path) -> Path | None:
    """Return the directory that `tensorboard --logdir` is given for a training, None without."""
    for base in bases_of(place / "checkpoint"):
        files = event_files_in(base, float("inf"))
        if not files:
            continue
        below = files[-1].parent.relative_to(base).parts
        return base / below[0] if below and below[0] in EVENT_DIRECTORIES else files[-1].parent
    return None


def wandb_run(place: Path, cwd: Path, environment: Mapping[str, str]) -> tuple[Path, str] | None:
    """Return the newest W&B run's directory and its id, beside a checkpoint or where one stands."""
    given = environment.get("WANDB_DIR")
    around = (*([Path(given)] if given else []), *bases_of(place / "checkpoint"), cwd)
    for base in around:
        found = []
        with suppress(OSError):
            for path in islice((base / "wandb").iterdir(), _LISTED):
                match = _RUN_DIRECTORY.fullmatch(path.name)
                if match:
                    found.append((path.name.partition("run-")[2], path, match["id"]))
        if found:
            _, path, run_id = max(found)
            return path, run_id
    return None


def mlflow_store(place: Path, cwd: Path, environment: Mapping[str, str]) -> str | None:
    """Return the tracking URI that a training beside these checkpoints logs to, None without."""
    given = environment.get("MLFLOW_TRACKING_URI")
    if given:
        return given
    for base in (cwd, *bases_of(place / "checkpoint")):
        for name, uri in _MLFLOW.items():
            if (base / name).exists():
                return uri.format((base / name).absolute())
    return None
