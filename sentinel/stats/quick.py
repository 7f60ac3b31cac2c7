"""What a quick look reads and what it leaves out, so that nobody takes it for a whole one.

Read whole is what decides: the side of every family that starts neutral, and each number kept as
a tensor. Everything else among the weights is screened for NaN, Inf and zeros. Of an optimizer
only its settings and counters are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.stats.effect import starts_at_one
from sentinel.stats.floats import FLOATS

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint, Tensor

UNREAD = "optimizer"
"""The table that a quick look does not make."""

UNMEASURED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "tensors": frozenset(
            {"subnormal_count", "below_fp16", "min", "max", "abs_max", "mean", "l2", "digest"}
            | {"same_share", "unchanged", "prev_abs_max", "prev_l2", "prev_digest"}
        ),
        "pairs": frozenset(
            {"up_l2", "down_l2", "up_rms", "down_rms", "norm", "stable_rank", "base_norm"}
            | {"prev_norm", "prev_up_l2", "prev_down_l2", "prev_stable_rank"}
        ),
        "effects": frozenset({"norm"}),
    }
)
"""Columns that a quick look knows of some rows or of none, by table."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a quick look left out; sizes in bytes, counts of tensors.

    ``screened`` are those looked through for NaN, Inf and zeros alone, ``unread`` those of the
    optimizer that were not read.
    """

    screened_count: int
    screened_bytes: int
    unread_count: int
    unread_bytes: int


def decides(tensor: Tensor) -> bool:
    """Tell whether a tensor is read whole by a quick look."""
    return tensor.zero_at_init or tensor.numel == 1 or starts_at_one(tensor)


def skipped_of(checkpoint: Checkpoint, weights: Iterable[Tensor]) -> Skipped:
    """Return what a quick look at these weights, and at the checkpoint's optimizer, leaves out."""
    screened = [tensor for tensor in weights if not decides(tensor) and tensor.dtype in FLOATS]
    state = checkpoint.optimizer
    unread = [t for one in state.parameters for t in one.tensors.values()] if state else []
    unread = [tensor for tensor in unread if tensor.numel != 1]
    return Skipped(
        len(screened),
        sum(tensor.size_bytes for tensor in screened),
        len(unread),
        sum(tensor.size_bytes for tensor in unread),
    )
