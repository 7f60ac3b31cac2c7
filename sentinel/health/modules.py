"""What pictures of a run are drawn from: numbers of its modules, and how large its values are.

Both ask about some checkpoints only, which the caller chooses: a run may have ten thousand. They
are read by the index of merged parts, not sought in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sentinel.health.earlier import earlier
from sentinel.health.query import fetch_from
from sentinel.health.schema import CHECKPOINTS, TENSORS


@dataclass(frozen=True, slots=True)
class ModuleNumbers:
    """One module in one checkpoint.

    ``norm`` is that of what the module adds, ``base_norm`` that of the weight under it, ``up_l2``
    that of its up matrices alone, all Frobenius norms, None when unknown. Counts are elements;
    ``same`` are those of tensors that are bit for bit as before, ``compared`` those of tensors for
    which that is known.
    """

    checkpoint_id: str
    module: str
    norm: float | None
    base_norm: float | None
    up_l2: float | None
    numel: int
    zero: int
    not_finite: int
    same: int
    compared: int


@dataclass(frozen=True, slots=True)
class ValueRange:
    """How large the values of one role and dtype were in the checkpoints of an attempt.

    ``low_rms`` and ``high_rms`` are the smallest and largest root mean square of a tensor, of its
    finite values other than zero; ``largest`` is the largest finite magnitude. None where all
    values are zero. Shares are of all elements.
    """

    attempt: int
    role: str
    dtype: str
    low_rms: float | None
    high_rms: float | None
    largest: float | None
    zero_share: float
    subnormal_share: float
    not_finite_share: float


_MODULES = """
SELECT checkpoint_id,
       coalesce(nullif(module, ''), tensor) AS module,
       max(effect_norm) AS norm,
       max(base_norm) AS base_norm,
       sqrt(sum(l2 * l2) FILTER (role = 'lora_up')) AS up_l2,
       coalesce(sum(numel), 0)::BIGINT AS numel,
       coalesce(sum(zero_count), 0)::BIGINT AS zero,
       coalesce(sum(coalesce(nan_count, 0) + coalesce(inf_count, 0)), 0)::BIGINT AS not_finite,
       coalesce(sum(numel) FILTER (unchanged), 0)::BIGINT AS same,
       coalesce(sum(numel) FILTER (unchanged IS NOT NULL), 0)::BIGINT AS compared
FROM tensors
WHERE coalesce(role, '') <> 'alpha'
GROUP BY ALL
ORDER BY ALL
"""
_RANGES = """
WITH sized AS (
    SELECT c.attempt, coalesce(nullif(t.role, ''), 'other') AS role, t.dtype, t.numel,
           t.zero_count, t.subnormal_count, t.abs_max,
           coalesce(t.nan_count, 0) + coalesce(t.inf_count, 0) AS not_finite,
           t.l2 / sqrt(nullif(t.numel - t.zero_count - not_finite, 0)) AS rms
    FROM tensors t JOIN checkpoints c USING (checkpoint_id)
    WHERE coalesce(t.role, '') <> 'alpha'
)
SELECT attempt, role, dtype,
       min(rms) FILTER (rms > 0) AS low_rms,
       max(rms) FILTER (rms > 0) AS high_rms,
       max(abs_max) FILTER (abs_max > 0) AS largest,
       coalesce(sum(zero_count) / nullif(sum(numel), 0), 0)::DOUBLE AS zero_share,
       coalesce(sum(subnormal_count) / nullif(sum(numel), 0), 0)::DOUBLE AS subnormal_share,
       coalesce(sum(not_finite) / nullif(sum(numel), 0), 0)::DOUBLE AS not_finite_share
FROM sized
WHERE dtype IS NOT NULL
GROUP BY ALL
ORDER BY ALL
"""


def module_numbers(
    root: Path, run_id: str, checkpoint_ids: Sequence[str]
) -> tuple[ModuleNumbers, ...]:
    """Return the modules of some checkpoints of a run, by checkpoint and name."""
    table = _ask(root, _MODULES, run_id, checkpoint_ids)
    return tuple(ModuleNumbers(**row) for row in table.to_pylist())


def value_ranges(root: Path, run_id: str, checkpoint_ids: Sequence[str]) -> tuple[ValueRange, ...]:
    """Return how large values were in some checkpoints of a run, by attempt, role and dtype."""
    table = _ask(root, _RANGES, run_id, checkpoint_ids)
    return tuple(ValueRange(**row) for row in table.to_pylist())


def _ask(root: Path, query: str, run_id: str, checkpoint_ids: Sequence[str]) -> pa.Table:
    known = earlier(root, run_id, checkpoint_ids)
    attempts = [one.row.attempt for one in known.values()]
    checkpoints = pa.table(
        {
            "checkpoint_id": pa.array(known, pa.string()),
            "attempt": pa.array(attempts, CHECKPOINTS.schema.field("attempt").type),
        }
    )
    none = TENSORS.schema.empty_table()
    tensors = pa.concat_tables([none, *(one.tensors for one in known.values())])
    return fetch_from({"checkpoints": checkpoints, "tensors": tensors}, query)
