"""What the log kept of some checkpoints, for the rules that look back after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from sentinel.health.query import fetch, read
from sentinel.health.reading import checkpoint_rows
from sentinel.health.rows import CheckpointRow

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Earlier:
    """One logged checkpoint: its row, and the rows of its tensors."""

    row: CheckpointRow
    tensors: pa.Table


def earlier(root: Path, run_id: str, checkpoint_ids: Sequence[str]) -> dict[str, Earlier]:
    """Return those of some checkpoints of a run that the log holds, by id."""
    if not checkpoint_ids:
        return {}

    def ask(connection: duckdb.DuckDBPyConnection) -> dict[str, Earlier]:
        wanted = (run_id, list(checkpoint_ids))
        where = "WHERE run_id = ? AND list_contains(?, checkpoint_id)"
        rows = fetch(connection, f"SELECT * FROM checkpoints {where}", wanted)  # noqa: S608 - our own text
        tensors = fetch(connection, f"SELECT * FROM tensors {where}", wanted)  # noqa: S608 - our own text
        found = checkpoint_rows(rows)
        return {row.checkpoint_id: Earlier(row, _of(tensors, row.checkpoint_id)) for row in found}

    return read(root, ask)


def _of(tensors: pa.Table, checkpoint_id: str) -> pa.Table:
    ours = [known == checkpoint_id for known in tensors["checkpoint_id"].to_pylist()]
    return tensors.filter(pa.array(ours, pa.bool_()))
