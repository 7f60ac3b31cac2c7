"""Merging the many small parts of a run, without ever losing a row.

Parts are merged in levels: `FANOUT` of one level become one of the next, so that a row is written
again once a level, and a run of n checkpoints has a number of parts that grows with log n until
parts are as large as `SEALED_BYTES` and stay. It follows O'Neil's log-structured merge-tree
(https://doi.org/10.1007/s002360050048).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pyarrow.parquet as pq

from sentinel.health.locks import merging, naming
from sentinel.health.log import HealthLog
from sentinel.health.merge import write_merged
from sentinel.health.parts import SOURCES, Part, footer_list, part_at, parts_of
from sentinel.health.schema import DATASETS, Dataset

FANOUT = 16
"""So many parts of one level are merged into one of the next."""

SEALED_BYTES = 128 * 1024 * 1024
"""A merged part of this size is not merged again."""

_LEFT_BEHIND_S = 3600.0
"""A file in the staging directory that nobody has written to for so long was left by a kill."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Parts of one dataset that become one, the oldest first."""

    sources: tuple[Part, ...]
    level: int

    @property
    def name(self) -> str:
        """Return the merged part's name: the same for the same sources, and none of theirs."""
        names = "\n".join(part.path.name for part in self.sources)
        digest = hashlib.blake2b(names.encode(), digest_size=16).hexdigest()
        return f"merged-{self.level}-{digest}.parquet"


def is_due(log: HealthLog, run_id: str, fanout: int = FANOUT) -> bool:
    """Tell by the names of a run's parts whether there is something to merge."""
    partitions = (log.partition(dataset, run_id) for dataset in DATASETS)
    return any(due_merges(parts_of(partition), fanout) for partition in partitions)


def compact_run(root: Path, run_id: str) -> int:
    """Merge what is due of a run in the health log below ``root``, as `compact` does."""
    return compact(HealthLog(root), run_id)


def compact(log: HealthLog, run_id: str, *, everything: bool = False, fanout: int = FANOUT) -> int:
    """Merge what is due of a run and return how many parts went into others.

    ``everything`` merges all parts that are not sealed, due or not. Readers and writers in other
    processes go on meanwhile; while one process merges a run, another that is asked to does
    nothing. Killed anywhere, no row is lost, and the next call finishes what was begun. Raises
    OSError when the disk refuses.
    """
    count = 0
    with merging(log.root, run_id) as ours:
        for dataset in DATASETS if ours else ():
            count += _compact(log, dataset, run_id, everything=everything, fanout=fanout)
        if ours:
            _sweep(log, run_id)
    return count


def due_merges(parts: list[Part], fanout: int = FANOUT) -> list[Merge]:
    """Return the merges that are due of the lowest level that has enough of a run's parts."""
    for level, group in groupby(reversed(_open(parts)), key=attrgetter("level")):
        same = list(group)[::-1]
        if len(same) >= fanout:
            starts = range(0, len(same) - fanout + 1, fanout)
            return [Merge(tuple(same[start : start + fanout]), level + 1) for start in starts]
    return []


def _compact(
    log: HealthLog, dataset: Dataset, run_id: str, *, everything: bool, fanout: int
) -> int:
    partition = log.partition(dataset, run_id)
    _finish(log, run_id, partition)
    count = 0
    while due := due_merges(parts_of(partition), fanout):
        count += sum(_merge(log, dataset, run_id, merge) for merge in due)
    rest = tuple(_open(parts_of(partition))) if everything else ()
    if len(rest) > 1:
        count += _merge(log, dataset, run_id, Merge(rest, max(1, rest[0].level)))
    return count


def _merge(log: HealthLog, dataset: Dataset, run_id: str, merge: Merge) -> int:
    """Write the merged part, then let the sources go that nobody wrote again meanwhile."""
    target = log.partition(dataset, run_id) / merge.name
    with log.writing(target) as file:
        write_merged(dataset, merge.sources, file)
    _let_go(log, run_id, merge.sources)
    return len(merge.sources)


def _finish(log: HealthLog, run_id: str, partition: Path) -> None:
    """Let the sources go that a killed merge had merged and left."""
    parts = parts_of(partition)
    lying = {tuple(part.mark()): part for part in parts}
    for part in parts:
        if part.level == 0:
            break  # the merged ones stand first
        with pq.ParquetFile(part.path) as file:
            told = footer_list(file, SOURCES)
        left = [lying[key] for key in map(tuple, told) if key in lying]
        if left:
            _let_go(log, run_id, left)


def _let_go(log: HealthLog, run_id: str, sources: Sequence[Part]) -> None:
    """Remove merged parts, unless they were written again since they were read."""
    with naming(log.root, run_id):
        for part in sources:
            if part_at(part.path) == part:
                part.path.unlink(missing_ok=True)


def _open(parts: list[Part]) -> list[Part]:
    return [part for part in parts if part.level == 0 or part.size_bytes < SEALED_BYTES]


def _sweep(log: HealthLog, run_id: str) -> None:
    """Remove what killed writers left unfinished."""
    before = time.time() - _LEFT_BEHIND_S
    for leftover in log.staging(run_id).glob(".*.tmp"):
        try:
            if leftover.stat().st_mtime < before:
                leftover.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # its writer has just given it its name
