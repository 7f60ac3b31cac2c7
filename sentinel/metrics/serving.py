"""Where Prometheus gets the metrics: over HTTP, or as a file for node_exporter.

Both work in threads of their own; whatever happens there is said, and the daemon goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    start_http_server,
    write_to_textfile,
)

from sentinel.alerting import Metrics
from sentinel.checkpoint import path_text
from sentinel.health.rows import CheckpointRow, EventRow
from sentinel.metrics.collector import RunsCollector
from sentinel.metrics.tally import Tallies
from sentinel.verdict import Verdict

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""From an adapter of a few MB to a full model on a slow disk."""

_EVERY_S = 15.0
_END_S = 5.0


class Metered:
    """The metrics of one daemon: told by it, read by whoever scrapes."""

    def __init__(self, tallies: Tallies, *, version: str, queue: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.changed = threading.Event()
        self._tallies = tallies
        self.registry.register(RunsCollector(tallies, version=version, queue=queue))
        ProcessCollector(registry=self.registry)
        self._took = Histogram(
            "sentinel_judge_duration_seconds",
            "Reading and judging one checkpoint, since this process began.",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._read = Counter(
            "sentinel_read_bytes",
            "Sizes of the checkpoints judged since this process began.",
            registry=self.registry,
        )

    def judged(self, row: CheckpointRow, verdict: Verdict, written_s: float | None) -> None:
        """Count a verdict."""
        self._tallies.judged(row, verdict, written_s)
        if row.measure_s is not None:
            self._took.observe(row.measure_s)
        self._read.inc(row.size_bytes)
        self.changed.set()

    def told(self, event: EventRow) -> None:
        """Count what an event tells."""
        self._tallies.told(event)
        self.changed.set()


@contextmanager
def serving(
    settings: Metrics, metered: Metered, *, on_note: Callable[[str], None]
) -> Iterator[None]:
    """Serve and write the metrics while the block lasts; what cannot be done is said once."""
    stops = [
        stop
        for stop in (
            _http(settings, metered.registry, on_note),
            _file(settings.file, metered, on_note) if settings.file else None,
        )
        if stop
    ]
    try:
        yield
    finally:
        for stop in stops:
            stop()


def _http(
    settings: Metrics, registry: CollectorRegistry, on_note: Callable[[str], None]
) -> Callable[[], None] | None:
    if settings.port is None:
        return None
    where = f"{settings.address}:{settings.port}"
    try:
        server, thread = start_http_server(settings.port, settings.address, registry)
    except OSError as error:
        on_note(
            f"metrics at {where}: cannot be served ({error.strerror or error}); all else goes"
            " on, give another --metrics-port for the next start"
        )
        return None
    if settings.port == 0:
        on_note(f"metrics at http://{settings.address}:{server.server_port}/metrics")

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(_END_S)

    return stop


def _file(path: Path, metered: Metered, on_note: Callable[[str], None]) -> Callable[[], None]:
    """Write a file at every change and every few seconds (a disk fills without one)."""
    ended = threading.Event()

    def keep() -> None:
        told = ""
        while True:
            is_last = ended.is_set()
            metered.changed.clear()
            told = _written(path, metered.registry, told, on_note)
            if is_last:
                return
            metered.changed.wait(_EVERY_S)

    thread = threading.Thread(target=keep, name="metrics-file", daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        metered.changed.set()
        thread.join(_END_S)

    return stop


def _written(
    path: Path, registry: CollectorRegistry, told: str, on_note: Callable[[str], None]
) -> str:
    """Write the file; return what was said about it last."""
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        why = f"metrics file '{path_text(path)}': cannot be written ({error.strerror or error})"
        if why != told:
            on_note(why)
        return why
    return ""
