"""The columns of the health log's three datasets.

Columns are only ever added, at the end, and never change their type; `docs/health-log.md`
explains each. Times are UTC with microseconds, ``settings``, ``remedy`` and ``detail`` are JSON
text, a column that cannot be known is NULL.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1

_TIME = pa.timestamp("us", tz="UTC")
_NAMES = pa.list_(pa.string())
_EXTENTS = pa.list_(pa.int64())


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: its directory's name, its columns, and what tells one row from another.

    A reader may meet a row twice while parts are merged; ``key`` names the columns that are
    then equal, ``newest_by`` the time that says which of the two to keep (None: either).
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    newest_by: str | None


CHECKPOINTS = Dataset(
    "checkpoints",
    pa.schema(
        [
            ("schema_version", pa.int32()),
            ("run_id", pa.string()),
            ("attempt", pa.int32()),
            ("seq", pa.int64()),
            ("checkpoint_id", pa.string()),
            ("parent", pa.string()),
            ("path", pa.string()),
            ("layout", pa.string()),
            ("trainer", pa.string()),
            ("step", pa.int64()),
            ("epoch", pa.float64()),
            ("updates_done", pa.int64()),
            ("size_bytes", pa.int64()),
            ("tensor_count", pa.int64()),
            ("dtypes", _NAMES),
            ("verdict", pa.string()),
            ("usable", _NAMES),
            ("reason", pa.string()),
            ("seen_at", _TIME),
            ("settled_at", _TIME),
            ("judged_at", _TIME),
            ("measure_s", pa.float64()),
            ("settings", pa.string()),
            ("holding", _NAMES),
            ("loss_steps", _EXTENTS),
            ("losses", pa.list_(pa.float64())),
        ]
    ),
    key=("checkpoint_id",),
    newest_by="judged_at",
)
"""One row a judged checkpoint. Its part is written last: what has no row here did not happen."""

TENSORS = Dataset(
    "tensors",
    pa.schema(
        [
            ("checkpoint_id", pa.string()),
            ("tensor", pa.string()),
            ("module", pa.string()),
            ("role", pa.string()),
            ("dtype", pa.string()),
            ("shape", _EXTENTS),
            ("logical_shape", _EXTENTS),
            ("numel", pa.int64()),
            ("nan_count", pa.int64()),
            ("inf_count", pa.int64()),
            ("zero_count", pa.int64()),
            ("subnormal_count", pa.int64()),
            ("min", pa.float64()),
            ("max", pa.float64()),
            ("abs_max", pa.float64()),
            ("mean", pa.float64()),
            ("l2", pa.float64()),
            ("digest", pa.string()),
            ("unchanged", pa.bool_()),
            ("effect_norm", pa.float64()),
            ("base_norm", pa.float64()),
        ]
    ),
    key=("checkpoint_id", "tensor"),
    newest_by=None,
)
"""One row a measured tensor. ``logical_shape`` differs from ``shape`` where values are packed,
as in a 4-bit base; the two norms are a module's and stand in the row of its up matrix (of another
family: of the tensor that can keep it without effect); ``run_id`` comes from the partition's name,
not from the files."""

EVENTS = Dataset(
    "events",
    pa.schema(
        [
            ("event_id", pa.string()),
            ("run_id", pa.string()),
            ("attempt", pa.int32()),
            ("checkpoint_id", pa.string()),
            ("kind", pa.string()),
            ("rule", pa.string()),
            ("severity", pa.string()),
            ("message", pa.string()),
            ("tensors", _NAMES),
            ("remedy", pa.string()),
            ("detail", pa.string()),
            ("at", _TIME),
        ]
    ),
    key=("event_id",),
    newest_by="at",
)
"""One row a finding, plan, action, outcome or start of an attempt."""

DATASETS = (CHECKPOINTS, TENSORS, EVENTS)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return ``table`` with exactly the columns of ``schema``.

    Columns the schema does not name are dropped, missing ones are NULL, values are cast
    without loss: one that does not fit raises `pyarrow.ArrowInvalid`.
    """
    present = set(table.column_names)
    columns = [
        table[field.name].cast(field.type)
        if field.name in present
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
