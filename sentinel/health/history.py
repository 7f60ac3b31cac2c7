"""What came before a checkpoint: its lineage, read back from the health log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sentinel.health.earlier import rows_of
from sentinel.health.log import HealthLog
from sentinel.health.query import fetch, read
from sentinel.health.schema import TENSORS

if TYPE_CHECKING:
    import duckdb

_PLACED = ("checkpoint_id", "attempt", "step", "seq", "parent")

Place = tuple[int, int]
"""Where a checkpoint stands inside its attempt: (step, seq), -1 for an unknown step."""


@dataclass(frozen=True, slots=True)
class History:
    """What came before a checkpoint in its lineage.

    ``checkpoints`` holds rows of that dataset, oldest first; ``tensors`` those of the newest
    checkpoint that has any, which is what "previous" means to a rule.
    """

    checkpoints: pa.Table
    tensors: pa.Table


def run_history(
    root: Path,
    run_id: str,
    *,
    attempt: int,
    parent: str | None = None,
    before: Place | None = None,
) -> History:
    """Return the lineage of a run's attempt: its checkpoints, then back through the parents.

    Each attempt goes on from the parent of its first checkpoint; ``parent`` says it for an
    attempt that has none in the log yet. Where no parent is known, history begins with the
    attempt. ``before`` is (step, seq) of the checkpoint that is asked about: only what lies
    before it counts, None takes all.
    """

    def ask(connection: duckdb.DuckDBPyConnection) -> History:
        rows = fetch(connection, "SELECT * FROM checkpoints WHERE run_id = ?", (run_id,))
        told = rows.select(_PLACED).to_pylist()
        numbers = lineage(told, attempt=attempt, parent=parent, before=before)
        line = rows.take(pa.array(numbers, pa.int64()))
        return History(line, _newest_tensors(HealthLog(root), run_id, line["checkpoint_id"]))

    return read(root, ask, run_id)


def lineage(
    rows: Sequence[Mapping[str, object]],
    *,
    attempt: int,
    parent: str | None = None,
    before: Place | None = None,
) -> list[int]:
    """Return the numbers of the rows that make the lineage, oldest first.

    ``rows`` are checkpoints of one run in any order.
    """
    order = sorted(range(len(rows)), key=lambda number: _place(rows[number]))
    by_id = {rows[number]["checkpoint_id"]: rows[number] for number in order}
    line: list[int] = []
    seen: set[object] = set()
    current: object = attempt
    while current not in seen:
        seen.add(current)
        ours = [number for number in order if rows[number]["attempt"] == current]
        line[:0] = [n for n in ours if before is None or _place(rows[n]) < before]
        origin = by_id.get(rows[ours[0]]["parent"] if ours else parent)
        if origin is None:
            break
        step, seq = _place(origin)
        current, before = origin["attempt"], (step, seq + 1)
    return line


def _place(row: Mapping[str, object]) -> Place:
    step, seq = row["step"], row["seq"]
    return (step if isinstance(step, int) else -1, seq if isinstance(seq, int) else -1)


def _newest_tensors(log: HealthLog, run_id: str, line: pa.ChunkedArray) -> pa.Table:
    for checkpoint_id in reversed(line.to_pylist()):
        tensors = rows_of(log, TENSORS, run_id, [checkpoint_id])
        if tensors:
            return tensors[checkpoint_id]
    return TENSORS.schema.empty_table()
