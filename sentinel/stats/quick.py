"""What less than a whole look reads and what it leaves out, so that nobody takes it for one.

Read whole is what decides: the side of every family that starts neutral, and each number kept as
a tensor. Everything else among the weights is screened for NaN, Inf and zeros. Of an optimizer
only its settings and counters are read. A look at the headers reads no value at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sentinel.stats.effect import starts_at_one
from sentinel.stats.floats import FLOATS

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint, Tensor

Depth = Literal["whole", "quick", "headers"]

UNREAD: Mapping[Depth, frozenset[str]] = MappingProxyType(
    {
        "whole": frozenset(),
        "quick": frozenset({"optimizer"}),
        "headers": frozenset({"optimizer", "optimizer_groups"}),
    }
)
"""The tables of an optimizer that are not made."""

_QUICK: Mapping[str, frozenset[str]] = MappingProxyType(
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
_VALUES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "tensors": _QUICK["tensors"]
        | {"nan_count", "inf_count", "zero_count"}
        | {"prev_nan_count", "prev_inf_count", "prev_zero_count"},
        "pairs": _QUICK["pairs"] | {"zero_side_zero_count", "alpha", "scale"},
        "effects": _QUICK["effects"] | {"idle"},
    }
)
UNMEASURED: Mapping[Depth, Mapping[str, frozenset[str]]] = MappingProxyType(
    {"whole": MappingProxyType({}), "quick": _QUICK, "headers": _VALUES}
)
"""Columns that are known of some rows or of none, by table."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """What a look of less than whole ``depth`` left out; sizes in bytes, counts of tensors.

    ``screened`` are those looked through for NaN, Inf and zeros alone, ``unread`` those
    that were not read, of the optimizer for the most part.
    """

    depth: Depth
    screened_count: int
    screened_bytes: int
    unread_count: int
    unread_bytes: int


def decides(tensor: Tensor) -> bool:
    """Tell whether a tensor is read whole by a quick look."""
    return tensor.zero_at_init or tensor.numel == 1 or starts_at_one(tensor)


def skipped_of(checkpoint: Checkpoint, weights: Iterable[Tensor], depth: Depth) -> Skipped | None:
    """Return what a look at these weights, and at the checkpoint's optimizer, leaves out."""
    if depth == "whole":
        return None
    state = checkpoint.optimizer
    unread = [t for one in state.parameters for t in one.tensors.values()] if state else []
    if depth == "headers":
        screened, unread = [], [*weights, *unread]
    else:
        screened = [tensor for tensor in weights if not decides(tensor) and tensor.dtype in FLOATS]
        unread = [tensor for tensor in unread if tensor.numel != 1]
    return Skipped(
        depth,
        len(screened),
        sum(tensor.size_bytes for tensor in screened),
        len(unread),
        sum(tensor.size_bytes for tensor in unread),
    )
