"""The tallies as Prometheus' metrics, made anew at each scrape.

Names and units follow https://prometheus.io/docs/practices/naming/. A run is named by its id;
`sentinel_run_info` gives the name to join. No label holds a path, a step or a tensor.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)

from sentinel.metrics.tally import RunState, RunTally, Tallies
from sentinel.verdict import LEVELS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

RUN = ["run"]
OUTCOMES = ("fixed", "not_fixed", "no_effect", "worse")


class RunsCollector:
    """What Prometheus' client asks for at each scrape."""

    def __init__(self, tallies: Tallies, *, version: str, queue: Callable[[], int]) -> None:
        self._tallies = tallies
        self._version = version
        self._queue = queue

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family, those without a sample too."""
        build = {"version": self._version, "python": platform.python_version()}
        yield InfoMetricFamily("sentinel_build", "The sentinel that runs.", build)
        waiting = "Checkpoints that lie there and wait for their verdict."
        yield GaugeMetricFamily("sentinel_queue_length", waiting, self._queue())
        runs = self._tallies.runs()
        info = InfoMetricFamily("sentinel_run", "The name of a run.", labels=RUN)
        for run_id, run in runs.items():
            info.add_metric([run_id], {"name": run.name})
        yield info
        for metrics in (_counters, _gauges, _states):
            yield from metrics(runs.items())

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: a registry would otherwise collect once when this is registered."""
        return ()


Runs = Iterable[tuple[str, RunTally]]


def _counters(runs: Runs) -> Iterator[Metric]:
    judged = CounterMetricFamily(
        "sentinel_checkpoints_judged", "Checkpoints that got a verdict.", labels=[*RUN, "verdict"]
    )
    findings = CounterMetricFamily(
        "sentinel_findings", "Findings of rules.", labels=[*RUN, "rule", "severity"]
    )
    repairs = CounterMetricFamily(
        "sentinel_repairs",
        "Repairs whose attempt is over, by what the checkpoints after them showed.",
        labels=[*RUN, "outcome"],
    )
    begun = CounterMetricFamily(
        "sentinel_repairs_begun", "Attempts after which a repair was planned.", labels=RUN
    )
    attempts = CounterMetricFamily("sentinel_attempts", "Starts of the trainer.", labels=RUN)
    hangs = CounterMetricFamily("sentinel_hangs", "Times a training was said to hang.", labels=RUN)
    for run_id, run in runs:
        for level in LEVELS:
            judged.add_metric([run_id, level], run.verdicts[level])
        for (rule, severity), count in sorted(run.findings.items()):
            findings.add_metric([run_id, rule, severity], count)
        proved = run.proved
        for outcome in OUTCOMES:
            repairs.add_metric([run_id, outcome], proved[outcome])
        begun.add_metric([run_id], len(run.repaired))
        attempts.add_metric([run_id], run.attempts)
        hangs.add_metric([run_id], run.hangs)
    yield from (judged, findings, repairs, begun, attempts, hangs)


def _gauges(runs: Runs) -> Iterator[Metric]:
    step = _gauge("sentinel_last_checkpoint_step", "Step of the checkpoint that was judged last.")
    written = _gauge(
        "sentinel_last_checkpoint_timestamp_seconds",
        "When the checkpoint that was judged last was written, since 1970.",
        "seconds",
    )
    size = _gauge(
        "sentinel_last_checkpoint_size_bytes", "Size of the checkpoint that was judged last.",
        "bytes",
    )  # fmt: skip
    loss = _gauge("sentinel_last_loss", "The newest loss that the trainer logged.")
    free = _gauge("sentinel_disk_free_bytes", "Free where the run writes.", "bytes")
    for run_id, run in runs:
        places = (run.place, *run.roots)
        room = next((found for found in map(_free_bytes, filter(None, places)) if found), None)
        told = (
            (step, run.step),
            (written, run.written_s),
            (size, run.size_bytes),
            (loss, run.loss),
            (free, room),
        )
        for family, value in told:
            if value is not None:
                family.add_metric([run_id], value)
    yield from (step, written, size, loss, free)


def _states(runs: Runs) -> Iterator[Metric]:
    verdict = StateSetMetricFamily(
        "sentinel_last_verdict", "The verdict on the checkpoint that was judged last.", labels=RUN
    )
    state = StateSetMetricFamily(
        "sentinel_run_state", "How a run of `sentinel run` goes on or ended.", labels=RUN
    )
    for run_id, run in runs:
        if run.level is not None:
            verdict.add_metric([run_id], {level: run.level == level for level in LEVELS})
        if run.state is not None:
            states = get_args(RunState)
            state.add_metric([run_id], {one: run.state == one for one in states})
    yield from (verdict, state)


def _gauge(name: str, says: str, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, labels=RUN, unit=unit)


def _free_bytes(place: Path) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
