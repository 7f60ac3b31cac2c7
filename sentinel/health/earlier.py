"""What the log kept of some checkpoints, for the rules that look back after a restart.

Parts are found by name, and rows in merged parts by the index in their footers, the newest parts
first: what is asked is recent, so this takes no longer in a run of a hundred thousand checkpoints.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentinel.health.locks import unmerged
from sentinel.health.log import HealthLog
from sentinel.health.parts import INDEX, footer_list, parts_of
from sentinel.health.reading import checkpoint_rows
from sentinel.health.rows import CheckpointRow
from sentinel.health.schema import CHECKPOINTS, TENSORS, Dataset, conform

_MERGE_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Earlier:
    """One logged checkpoint: its row, and the rows of its tensors."""

    row: CheckpointRow
    tensors: pa.Table


def earlier(root: Path, run_id: str, checkpoint_ids: Sequence[str]) -> dict[str, Earlier]:
    """Return those of some checkpoints of a run that the log holds, by id."""
    if not checkpoint_ids:
        return {}
    log = HealthLog(root)
    for _ in range(_MERGE_RETRIES):
        try:
            return _earlier(log, run_id, checkpoint_ids)
        except FileNotFoundError:
            continue  # merged away between finding and reading
    with unmerged(root, [run_id]):
        return _earlier(log, run_id, checkpoint_ids)


def rows_of(
    log: HealthLog, dataset: Dataset, run_id: str, checkpoint_ids: Sequence[str]
) -> dict[str, pa.Table]:
    """Return the newest rows that a dataset holds of some checkpoints, by id.

    Raises FileNotFoundError when a part was merged away meanwhile.
    """
    parts = parts_of(log.partition(dataset, run_id))
    own = {part.path.stem: part for part in parts if part.level == 0}
    found = {
        one: conform(pq.ParquetFile(own[one].path).read(), dataset.schema)
        for one in checkpoint_ids
        if one in own
    }
    merged = [part for part in parts if part.level > 0]
    for part in sorted(merged, key=attrgetter("mtime_ns"), reverse=True):
        missing = sorted(set(checkpoint_ids) - found.keys())
        if not missing:
            break
        with pq.ParquetFile(part.path) as file:
            found |= _rows_in(file, dataset, missing)
    return found


def _earlier(log: HealthLog, run_id: str, checkpoint_ids: Sequence[str]) -> dict[str, Earlier]:
    rows = rows_of(log, CHECKPOINTS, run_id, checkpoint_ids)
    tensors = rows_of(log, TENSORS, run_id, sorted(rows))
    return {
        name: Earlier(
            checkpoint_rows(row.sort_by("judged_at"))[-1],
            tensors.get(name, TENSORS.schema.empty_table()),
        )
        for name, row in rows.items()
    }


def _rows_in(file: pq.ParquetFile, dataset: Dataset, wanted: Sequence[str]) -> dict[str, pa.Table]:
    """Return the rows of each wanted checkpoint that a merged part holds."""
    groups = _groups_with(file, frozenset(wanted))
    if not groups:
        return {}
    rows = conform(file.read_row_groups(groups), dataset.schema)
    tables = {one: rows.filter(pc.equal(rows["checkpoint_id"], one)) for one in wanted}
    return {one: table for one, table in tables.items() if len(table)}


def _groups_with(file: pq.ParquetFile, wanted: frozenset[str]) -> list[int]:
    """Return the row groups that may hold a wanted checkpoint; without an index that is each."""
    index = footer_list(file, INDEX)
    ends = list(accumulate(_row_counts(file)))
    if not index:
        return list(range(len(ends)))
    groups: set[int] = set()
    for name, first, count in index:
        if name in wanted:
            last = int(first) + int(count) - 1
            groups.update(range(bisect_right(ends, int(first)), bisect_right(ends, last) + 1))
    return sorted(groups & set(range(len(ends))))


def _row_counts(file: pq.ParquetFile) -> list[int]:
    metadata = file.metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
