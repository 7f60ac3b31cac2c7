"""Appending to the health log: Parquet parts that appear whole, the commit mark last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.health.identity import require_part_name, require_run_id
from sentinel.health.locks import naming
from sentinel.health.plain import json_text, valid_text
from sentinel.health.rows import CheckpointRow, EventRow
from sentinel.health.schema import (
    CHECKPOINTS,
    EVENTS,
    SCHEMA_VERSION,
    TENSORS,
    Dataset,
    conform,
)
from sentinel.storage import atomic_writer

Writer = Callable[[Path], AbstractContextManager[BinaryIO]]
"""Opens a file that appears under its name as a whole when the block ends."""

_PARTITION = "run_id="
_JSON_COLUMNS = frozenset({"settings", "remedy", "detail"})


def staging_writer(root: Path) -> Writer:
    """Return a writer that keeps unfinished parts out of the datasets' directories.

    Polars refuses to scan a directory in which a file of another kind lies, even a hidden one.
    """

    def open_part(part: Path) -> AbstractContextManager[BinaryIO]:
        run_id = part.parent.name.removeprefix(_PARTITION)
        return atomic_writer(part, staging=_staging(root, run_id), naming=naming(root, run_id))

    return open_part


def _staging(root: Path, run_id: str) -> Path:
    """Return where unfinished parts of one run lie, on the same file system as the parts."""
    return root / ".staging" / f"{_PARTITION}{run_id}"


class HealthLog:
    """The health log below ``root``, one directory a dataset, partitioned by run.

    Parts are named after what they hold, so that writing again what was written before a
    crash replaces it, and several processes may write a run. `sentinel.health.compaction` merges
    parts meanwhile.
    """

    def __init__(self, root: Path, *, writer: Writer | None = None) -> None:
        self.root = root
        self._writer = writer or staging_writer(root)

    def append(
        self, row: CheckpointRow, tensors: pa.Table | None, events: Iterable[EventRow] = ()
    ) -> None:
        """Write one judged checkpoint: its tensors, its events, then the checkpoint itself.

        ``tensors`` may hold more columns than the log and lack some; its ``checkpoint_id`` is
        set here. Killed anywhere before the end, the checkpoint is not in the log, and the
        same call again leaves each row exactly once. Raises StateError for an unsafe id and
        OSError when the disk refuses.
        """
        name = require_part_name(row.checkpoint_id)
        happened = tuple(events)
        if any(event.run_id != row.run_id for event in happened):
            message = "events of another run cannot be written with this checkpoint"
            raise ValueError(message)
        if tensors is not None and tensors.num_rows:
            self._write(TENSORS, row.run_id, name, _of_checkpoint(tensors, row.checkpoint_id))
        if happened:
            self._write(EVENTS, row.run_id, name, _table(EVENTS, happened))
        self._write(CHECKPOINTS, row.run_id, name, _table(CHECKPOINTS, (row,)))

    def append_tensors(self, run_id: str, checkpoint_id: str, tensors: pa.Table) -> None:
        """Write the tensors of a checkpoint before it is judged, as `append` does first of all.

        Without the checkpoint's own row, which `append` with no ``tensors`` adds, they are not
        in the log.
        """
        name = require_part_name(checkpoint_id)
        self._write(TENSORS, run_id, name, _of_checkpoint(tensors, checkpoint_id))

    def holds_tensors(self, run_id: str, checkpoint_id: str) -> bool:
        """Tell whether a checkpoint's tensors are there as a part of their own."""
        name = require_part_name(checkpoint_id)
        return (self.partition(TENSORS, run_id) / f"{name}.parquet").exists()

    def append_event(self, event: EventRow) -> None:
        """Write one event that comes without a checkpoint: a plan, an action, an outcome."""
        name = require_part_name(event.event_id)
        self._write(EVENTS, event.run_id, name, _table(EVENTS, (event,)))

    def writing(self, part: Path) -> AbstractContextManager[BinaryIO]:
        """Open a part of this log that appears under its name as a whole when the block ends."""
        return self._writer(part)

    def partition(self, dataset: Dataset, run_id: str) -> Path:
        """Return the directory that holds a run's parts of a dataset."""
        return self.root / dataset.name / f"{_PARTITION}{require_run_id(run_id)}"

    def run_ids(self) -> tuple[str, ...]:
        """Return the runs that have a directory in this log."""
        names = {place.name for place in self.root.glob(f"*/{_PARTITION}*") if place.is_dir()}
        return tuple(sorted(name.removeprefix(_PARTITION) for name in names))

    def staging(self, run_id: str) -> Path:
        """Return the directory in which the parts of a run lie until they are whole."""
        return _staging(self.root, require_run_id(run_id))

    def _write(self, dataset: Dataset, run_id: str, name: str, table: pa.Table) -> None:
        path = self.partition(dataset, run_id) / f"{name}.parquet"
        with self.writing(path) as file:
            pq.write_table(table, file, compression="zstd")


def _of_checkpoint(tensors: pa.Table, checkpoint_id: str) -> pa.Table:
    if "checkpoint_id" in tensors.column_names:
        tensors = tensors.drop_columns(["checkpoint_id"])
    names = pa.repeat(pa.scalar(checkpoint_id), tensors.num_rows)
    return conform(tensors.append_column("checkpoint_id", names), TENSORS.schema)


def _table(dataset: Dataset, rows: tuple[CheckpointRow, ...] | tuple[EventRow, ...]) -> pa.Table:
    records = [
        {"schema_version": SCHEMA_VERSION}
        | {f.name: _cell(f.name, getattr(row, f.name)) for f in fields(row)}
        for row in rows
    ]
    return pa.Table.from_pylist(records, schema=dataset.schema)


def _cell(column: str, value: object) -> object:
    if value is None:
        return None
    if column in _JSON_COLUMNS:
        return json_text(value)
    if isinstance(value, tuple):
        return [valid_text(one) if isinstance(one, str) else one for one in value]
    return valid_text(value) if isinstance(value, str) else value
