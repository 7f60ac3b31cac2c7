"""The health log of a very long run: `python benchmarks/scale/run.py --help`.

Appends synthetic checkpoints through the real writer while the daemon's own merging goes on
beside it, and asks the log afterwards. Writes `benchmarks/results/scale.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from questions import QUESTIONS
from synthetic import RUN, Tensors, row

from sentinel.daemon.compacting import compacting
from sentinel.health.log import HealthLog
from sentinel.health.schema import DATASETS
from sentinel.priority import Priority

RESULTS = Path(__file__).parents[1] / "results" / "scale.md"
VERSIONS = ("pyarrow", "duckdb")
WINDOW = 500
"""Appends before each mark that its median is taken of."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What had become of the log after so many checkpoints."""

    checkpoints: int
    append_ms: float
    append_cpu_ms: float
    slowest_ms: float
    files: int
    size_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=100_000)
    parser.add_argument("--tensors", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="of each question")
    parser.add_argument("--place", type=Path, help="a directory for the log [default: /tmp]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        root = Path(place) / "health"
        marks, lasted_s, merging_s = _write(root, options)
        lines = [*_head(options), *_appending(marks, lasted_s, merging_s), *_answers(root, options)]
    text = "\n".join(lines) + "\n"
    print(text)
    options.results.write_text(text, encoding="utf-8")


def _write(root: Path, options: argparse.Namespace) -> tuple[list[Mark], float, float]:
    log, tensors = HealthLog(root), Tensors(options.tensors)
    at = [mark for mark in (1000, 10_000, 100_000) if mark < options.checkpoints]
    took: list[tuple[float, float]] = []
    marks: list[Mark] = []
    began = time.perf_counter()
    with compacting(log, (), on_note=print, priority=Priority()) as merging:
        for number in range(1, options.checkpoints + 1):
            table, one = tensors.table(), row(number, options.tensors)
            wall, cpu = time.perf_counter(), time.thread_time()
            log.append(one, table)
            took.append((time.perf_counter() - wall, time.thread_time() - cpu))
            merging.grew(RUN)
            if number in {*at, options.checkpoints}:
                marks.append(_mark(root, number, took[-WINDOW:]))
                print(marks[-1], file=sys.stderr, flush=True)
        merging.finish()
    marks.append(_mark(root, options.checkpoints, took[-WINDOW:]))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return marks, time.perf_counter() - began, used.ru_utime + used.ru_stime


def _mark(root: Path, number: int, took: list[tuple[float, float]]) -> Mark:
    sizes = []
    for part in root.rglob("*.parquet"):
        try:
            sizes.append(part.stat().st_size)
        except FileNotFoundError:
            continue  # merged away just now
    return Mark(
        number,
        1000 * statistics.median(wall for wall, _ in took),
        1000 * statistics.median(cpu for _, cpu in took),
        1000 * max(wall for wall, _ in took),
        len(sizes),
        sum(sizes),
    )


def _head(options: argparse.Namespace) -> Iterator[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    cores = len(os.sched_getaffinity(0))
    yield "# The health log of a very long run\n"
    yield (
        f"{options.checkpoints:,} checkpoints of {options.tensors} tensors "
        f"({options.checkpoints * options.tensors:,} rows of random statistics), one run, through "
        "the real writer as fast as it goes, the daemon's merging beside it.\n"
        f"{platform.machine()}, {cores} cores allowed, load {load} at the end (1, 5 and 15 "
        f"minutes); {platform.system()}, Python {platform.python_version()}, {versions}.\n"
    )
    yield (
        f"    make bench-scale SCALE_BENCH='--checkpoints {options.checkpoints} "
        f"--tensors {options.tensors}'\n"
    )


def _appending(marks: list[Mark], lasted_s: float, merging_s: float) -> Iterator[str]:
    yield "## Appending\n"
    yield (
        f"Medians of the {WINDOW} appends before, each with its two parts on the disk; the "
        f"appending thread's processor time. All of it took {lasted_s:.0f} s, the merging "
        f"{merging_s:.0f} s of processor time in children of its own "
        f"({1000 * merging_s / marks[-1].checkpoints:.1f} ms a checkpoint), of which the largest "
        f"held {_mib(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)}.\n"
    )
    yield "| checkpoints | append | processor | slowest | in times of the first | files | bytes |"
    yield "|---|---|---|---|---|---|---|"
    for mark in marks[:-1]:
        yield (
            f"| {mark.checkpoints:,} | {mark.append_ms:.2f} ms | {mark.append_cpu_ms:.2f} ms "
            f"| {mark.slowest_ms:.0f} ms | {mark.append_cpu_ms / marks[0].append_cpu_ms:.2f} "
            f"| {mark.files} | {_mib(mark.size_bytes)} |"
        )
    last = marks[-1]
    yield (
        f"\nWhen the merging had caught up: {last.files} files of {len(DATASETS)} datasets, "
        f"{_mib(last.size_bytes)}.\n"
    )


def _answers(root: Path, options: argparse.Namespace) -> Iterator[str]:
    yield "## Asking\n"
    yield "Each in a fresh process whose imports are not counted; medians.\n"
    yield "| question | answers | time | processor | peak memory |"
    yield "|---|---|---|---|---|"
    for name, (words, _ask) in QUESTIONS.items():
        command = [sys.executable, str(Path(__file__).with_name("questions.py"))]
        told = [
            json.loads(
                subprocess.run(
                    [*command, root, name, str(options.checkpoints)],
                    check=True,
                    capture_output=True,
                ).stdout
            )
            for _ in range(options.rounds)
        ]
        wall, cpu, peak = (
            statistics.median(one[key] for one in told) for key in ("wall_s", "cpu_s", "peak_bytes")
        )
        yield f"| {words} | {told[0]['rows']:,} | {wall:.2f} s | {cpu:.2f} s | {_mib(peak)} |"


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 1024**2:,.0f} MiB"


if __name__ == "__main__":
    main()
