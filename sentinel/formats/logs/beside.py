"""A checkpoint with the numbers its trainer logged beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from sentinel.checkpoint import Checkpoint, Metric
from sentinel.formats.logs.attempts import SLACK_S, leading_to
from sentinel.formats.logs.entry import Entry, Log
from sentinel.formats.logs.files import read_event_log, read_json_log
from sentinel.formats.logs.places import bases_of, event_files_in, json_logs_in

METRICS_LIMIT = 20_000


def with_log(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with the metrics of the log beside it, unless it has some of its own.

    ``updates_done`` is taken from them where nothing else told. Never raises for what a log holds.
    """
    if checkpoint.metrics or not checkpoint.members:
        return checkpoint
    metrics = metrics_beside(checkpoint)
    updates = checkpoint.updates_done
    if updates is None and checkpoint.step is not None:
        updates = updates_logged(metrics)
    return replace(checkpoint, metrics=metrics, updates_done=updates)


def metrics_beside(checkpoint: Checkpoint) -> tuple[Metric, ...]:
    """Return what the nearest log that fits says up to a checkpoint; JSON lines go first."""
    written_s = max((member.mtime_ns for member in checkpoint.members), default=0) / 1e9
    for logs in _logs_beside(checkpoint, written_s + SLACK_S):
        entries = leading_to(logs, checkpoint.step, written_s)
        if entries:
            return tuple(_metric(entry) for entry in entries[-METRICS_LIMIT:])
    return ()


def updates_logged(metrics: tuple[Metric, ...]) -> int | None:
    """Return how many updates a log proves: the logged steps with a learning rate above zero.

    The first is left out, as some trainers log the rate of the step to come, and so is one whose
    gradient is not finite. None when that proves none.
    """
    idle = {
        metric.step
        for metric in metrics
        if metric.name == "grad_norm" and not math.isfinite(metric.value)
    }
    moved = {
        metric.step for metric in metrics if metric.name == "learning_rate" and metric.value > 0
    }
    return max(0, len(moved - idle - {min(moved, default=0)})) or None


def _logs_beside(checkpoint: Checkpoint, until_s: float) -> Iterator[list[Log]]:
    """Yield the logs that belong together: each JSON log alone, event files all at once."""
    for base in bases_of(checkpoint.path):
        for path in json_logs_in(base):
            yield _known(read_json_log(path))
        yield _known(*map(read_event_log, event_files_in(base, until_s)))


def _known(*logs: Log | None) -> list[Log]:
    return [log for log in logs if log is not None]


def _metric(entry: Entry) -> Metric:
    return Metric(entry.step, entry.name, entry.value)
