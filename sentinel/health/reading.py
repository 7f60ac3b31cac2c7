"""Rows of the health log as values again: the way back from what `sentinel.health.log` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentinel.health.query import fetch, read
from sentinel.health.rows import CheckpointRow, EventRow

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


_LISTS = frozenset({"dtypes", "usable", "tensors", "holding", "loss_steps", "losses"})


@dataclass(frozen=True, slots=True)
class RunLog:
    """Everything the health log holds of one run but the tensors.

    Checkpoints stand in the order of attempt, step and seq, events in the order of time.
    """

    checkpoints: tuple[CheckpointRow, ...]
    events: tuple[EventRow, ...]


def read_run(root: Path, run_id: str) -> RunLog:
    """Return what the log holds of a run; nothing at all for a run it does not know."""

    def ask(connection: duckdb.DuckDBPyConnection) -> RunLog:
        checkpoints = fetch(
            connection,
            "SELECT * FROM checkpoints WHERE run_id = ? ORDER BY attempt, step NULLS FIRST, seq",
            (run_id,),
        )
        events = fetch(
            connection,
            "SELECT * FROM events WHERE run_id = ? ORDER BY events.at, event_id",
            (run_id,),
        )
        return RunLog(checkpoint_rows(checkpoints), event_rows(events))

    return read(root, ask, run_id)


def largest_up_norms(root: Path, run_id: str) -> dict[str, float]:
    """Return by checkpoint the largest Frobenius norm of a lora_up matrix of a run.

    NaN where one holds NaN; checkpoints without such a matrix are left out.
    """

    def ask(connection: duckdb.DuckDBPyConnection) -> pa.Table:
        return fetch(
            connection,
            "SELECT checkpoint_id, max(l2) AS norm FROM tensors JOIN checkpoints"
            " USING (checkpoint_id) WHERE checkpoints.run_id = ? AND role = 'lora_up'"
            " AND l2 IS NOT NULL GROUP BY checkpoint_id",
            (run_id,),
        )

    found = read(root, ask)
    return {str(one["checkpoint_id"]): float(one["norm"]) for one in found.to_pylist()}


def checkpoint_rows(table: pa.Table) -> tuple[CheckpointRow, ...]:
    """Return the rows of a table with the columns of ``checkpoints`` as values."""
    return tuple(CheckpointRow(**record) for record in _records(table, CheckpointRow))


def event_rows(table: pa.Table) -> tuple[EventRow, ...]:
    """Return the rows of a table with the columns of ``events`` as values."""
    return tuple(EventRow(**record) for record in _records(table, EventRow))


def _records(table: pa.Table, kind: type[CheckpointRow | EventRow]) -> Iterator[dict[str, Any]]:
    names = [field.name for field in fields(kind)]
    for record in table.select(names).to_pylist():
        yield {name: _value(name, record[name]) for name in names}


def _value(column: str, cell: object) -> object:
    if column in {"settings", "detail"}:
        return json.loads(str(cell or "{}"))
    if column == "remedy":
        return None if cell is None else json.loads(str(cell))
    if column in _LISTS:
        return tuple(cell) if isinstance(cell, list) else ()
    return cell
