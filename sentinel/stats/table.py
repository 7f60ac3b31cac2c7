"""The tables that rules read and the health log keeps, as Arrow schemas and their builders."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeGuard

import pyarrow as pa

from sentinel.checkpoint import path_text
from sentinel.stats.base_norms import BaseNorm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sentinel.checkpoint import Base, Checkpoint, Tensor
    from sentinel.stats.moments import Moments

TENSORS = pa.schema(
    [
        ("tensor", pa.string()),
        ("member", pa.string()),
        ("part", pa.string()),
        ("module", pa.string()),
        ("role", pa.string()),
        ("family", pa.string()),
        ("zero_at_init", pa.bool_()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int64())),
        ("numel", pa.int64()),
        ("nan_count", pa.int64()),
        ("inf_count", pa.int64()),
        ("zero_count", pa.int64()),
        ("subnormal_count", pa.int64()),
        ("below_fp16", pa.int64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("abs_max", pa.float64()),
        ("mean", pa.float64()),
        ("l2", pa.float64()),
        ("digest", pa.string()),
        ("sample", pa.binary()),
    ]
)
PAIRS = pa.schema(
    [
        ("module", pa.string()),
        ("family", pa.string()),
        ("component", pa.string()),
        ("up", pa.string()),
        ("down", pa.string()),
        ("up_dtype", pa.string()),
        ("down_dtype", pa.string()),
        ("rank", pa.int64()),
        ("alpha", pa.float64()),
        ("scale", pa.float64()),
        ("zero_side", pa.string()),
        ("zero_side_zero_count", pa.int64()),
        ("zero_side_numel", pa.int64()),
        ("up_l2", pa.float64()),
        ("down_l2", pa.float64()),
        ("up_rms", pa.float64()),
        ("down_rms", pa.float64()),
        ("in_features", pa.int64()),
        ("out_features", pa.int64()),
        ("norm", pa.float64()),
        ("stable_rank", pa.float64()),
        ("base_norm", pa.float64()),
    ]
)
EFFECTS = pa.schema(
    [
        ("module", pa.string()),
        ("family", pa.string()),
        ("component", pa.string()),
        ("tensor", pa.string()),
        ("role", pa.string()),
        ("dtype", pa.string()),
        ("starts_idle", pa.bool_()),
        ("idle", pa.bool_()),
        ("norm", pa.float64()),
    ]
)
CHECKPOINT = pa.schema(
    [
        ("path", pa.string()),
        ("layout", pa.string()),
        ("trainer", pa.string()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("updates_done", pa.int64()),
        ("complete", pa.bool_()),
        ("size_bytes", pa.int64()),
        ("tensor_count", pa.int64()),
        ("has_optimizer", pa.bool_()),
        ("optimizer_step", pa.float64()),
        ("free_bytes", pa.int64()),
    ]
)
"""The columns that are always there; each setting follows as a column of its own."""

CONFIG = pa.schema(
    [
        ("name", pa.string()),
        ("value", pa.string()),
        ("number", pa.float64()),
        ("truth", pa.bool_()),
    ]
)
METRICS = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
FAULTS = pa.schema(
    [
        ("rule", pa.string()),
        ("part", pa.string()),
        ("member", pa.string()),
        ("message", pa.string()),
    ]
)
BASE = pa.schema(
    [
        ("module", pa.string()),
        ("tensor", pa.string()),
        ("dtype", pa.string()),
        ("scheme", pa.string()),
        ("compute_dtype", pa.string()),
        ("out_features", pa.int64()),
        ("in_features", pa.int64()),
        ("adapter_module", pa.string()),
        ("norm", pa.float64()),
        ("zero_rows", pa.int64()),
    ]
)

_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,99}")


def tensor_row(
    tensor: Tensor, part: str, moments: Moments, digest: str | None, sample: bytes | None = None
) -> dict[str, object]:
    """Return one row of the table ``tensors``."""
    return {
        "tensor": tensor.name,
        "member": path_text(tensor.member),
        "part": part,
        "module": tensor.module,
        "role": tensor.role,
        "family": tensor.family,
        "zero_at_init": tensor.zero_at_init,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "numel": tensor.numel,
        "nan_count": moments.nan_count,
        "inf_count": moments.inf_count,
        "zero_count": moments.zero_count,
        "subnormal_count": moments.subnormal_count,
        "below_fp16": moments.below_fp16,
        "min": moments.min,
        "max": moments.max,
        "abs_max": moments.abs_max,
        "mean": moments.mean,
        "l2": moments.l2,
        "digest": digest,
        "sample": sample,
    }


def checkpoint_table(
    checkpoint: Checkpoint, optimizer: pa.Table | None = None, free_bytes: int | None = None
) -> pa.Table:
    """Return the one row of the table ``checkpoint``, with a column for each setting.

    ``optimizer`` is the table of that name, None when no state was understood; ``free_bytes``
    what is free where the checkpoint lies, while somebody trains there.
    """
    row: dict[str, object] = {
        "path": path_text(checkpoint.path),
        "layout": checkpoint.layout,
        "trainer": checkpoint.trainer,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "updates_done": checkpoint.updates_done,
        "complete": checkpoint.complete,
        "size_bytes": checkpoint.size_bytes,
        "tensor_count": len(checkpoint.tensors),
        "has_optimizer": any(member.part == "optimizer" for member in checkpoint.members),
        "optimizer_step": _largest_step(optimizer),
        "free_bytes": free_bytes,
    }
    return checkpoint_row_table(row, checkpoint.settings)


def _largest_step(optimizer: pa.Table | None) -> float | None:
    steps = [] if optimizer is None else optimizer["step"].to_pylist()
    return max((step for step in steps if step is not None), default=None)


def checkpoint_row_table(row: Mapping[str, object], settings: Mapping[str, object]) -> pa.Table:
    """Return a row of the table ``checkpoint`` out of its columns and settings."""
    fixed = pa.Table.from_pylist([dict(row)], schema=CHECKPOINT)
    for column, value in setting_columns(settings).items():
        if column not in fixed.column_names:
            fixed = fixed.append_column(column, pa.array([value]))
    return fixed


def setting_columns(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings by column name: lower case, dots and dashes as underscores.

    A name that still is no plain identifier is left out; of two that meet, the first wins.
    """
    columns: dict[str, object] = {}
    for name, value in settings.items():
        column = re.sub(r"[.\-]", "_", name.lower())
        if _COLUMN.fullmatch(column):
            columns.setdefault(column, value)
    return columns


def config_table(settings: Mapping[str, object]) -> pa.Table:
    """Return every setting by its dotted name: as text, and as number or truth where it is one."""
    rows = [
        {
            "name": name,
            "value": _setting_text(value),
            "number": float(value) if _is_number(value) else None,
            "truth": value if isinstance(value, bool) else None,
        }
        for name, value in settings.items()
    ]
    return pa.Table.from_pylist(rows, schema=CONFIG)


def _setting_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def metrics_table(checkpoint: Checkpoint) -> pa.Table:
    """Return the numbers the trainer logged up to this checkpoint."""
    rows = [
        {"step": metric.step, "name": metric.name, "value": metric.value}
        for metric in checkpoint.metrics
    ]
    return pa.Table.from_pylist(rows, schema=METRICS)


def faults_table(checkpoint: Checkpoint) -> pa.Table:
    """Return what is wrong with the files themselves."""
    rows = [
        {
            "rule": fault.rule,
            "part": fault.part,
            "member": path_text(fault.member),
            "message": fault.message,
        }
        for fault in checkpoint.faults
    ]
    return pa.Table.from_pylist(rows, schema=FAULTS)


def base_table(
    base: Base,
    matches: Mapping[str, str] = MappingProxyType({}),
    norms: Mapping[str, BaseNorm] = MappingProxyType({}),
) -> pa.Table:
    """Return the weights of the model under the adapter, one row a module.

    ``matches`` gives the base's module for each of the adapter's, ``norms`` the size of those
    that were read, by the base's module.
    """
    adapter_modules = {theirs: own for own, theirs in matches.items()}
    unread = BaseNorm(None, None)
    rows = [
        {
            "module": weight.module,
            "tensor": weight.tensor,
            "dtype": weight.dtype,
            "scheme": weight.scheme,
            "compute_dtype": base.compute_dtype,
            "out_features": weight.out_features,
            "in_features": weight.in_features,
            "adapter_module": adapter_modules.get(weight.module),
            "norm": norms.get(weight.module, unread).norm,
            "zero_rows": norms.get(weight.module, unread).zero_rows,
        }
        for weight in base.weights
    ]
    return pa.Table.from_pylist(rows, schema=BASE)


def table_of(rows: Iterable[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table of exactly the schema's columns."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
