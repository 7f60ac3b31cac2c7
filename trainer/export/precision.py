"""Other precisions, refused where they would lose what the weights say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch

from ..errors import RefusedError

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES: Mapping[Precision, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
)


def cast(what: str, tensors: dict[str, torch.Tensor], name: Precision) -> dict[str, torch.Tensor]:
    """Return the floating-point tensors in another precision, all others as they are.

    Raises RefusedError when values overflow, or when a tensor that is not zero becomes zero.
    """
    dtype = _DTYPES[name]
    result = {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in tensors.items()
    }
    over = {key: int((~value.isfinite()).sum()) for key, value in result.items()}
    total = sum(value.numel() for value in result.values())
    if count := sum(over.values()):
        key = max(over, key=lambda each: over[each])
        peak = float(tensors[key].abs().max())
        fact = (
            f"{count:,} of {total:,} values ({_share(count, total)}) are above {name}'s largest, "
            f"{torch.finfo(dtype).max:.6g} ('{key}' reaches {peak:.3g})"
        )
        raise RefusedError(what, fact, "use --dtype bf16 or fp32")
    gone = [key for key, value in result.items() if tensors[key].any() and not value.any()]
    if gone:
        fact = f"{name} rounds all of '{gone[0]}' to zero ({len(gone)} of {len(result)} tensors)"
        raise RefusedError(what, fact, "use --dtype bf16 or fp32")
    return result


def rounded_to_zero(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """Return which share of the values that are not zero became zero, from 0 to 1."""
    kept = sum(int(after[key].count_nonzero()) for key in before)
    there = sum(int(value.count_nonzero()) for value in before.values())
    return 1 - kept / there if there else 0.0


def _share(count: int, total: int) -> str:
    """Return a share in percent that is never told as 0 %."""
    return f"{max(count / total, 1e-6):.2%}" if count / total >= 1e-4 else "less than 0.01%"  # noqa: PLR2004
