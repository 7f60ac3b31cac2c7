"""Casting blocks of floats, bit for bit as torch's `Tensor.to` does, and counting what is lost.

Rounding is to the nearest, ties to even. torch goes from F64 to the 16-bit formats by way of F32
and so rounds twice; so does this. A NaN stays one, its payload may differ (in torch it depends on
the processor). Sources: c10/util/BFloat16.h, c10/util/Half.h of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sentinel.receipt import CastTo, Loss
from sentinel.stats.floats import FLOATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

DTYPE_OF_PRECISION: Mapping[CastTo, str] = MappingProxyType(
    {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
)
CASTABLE = frozenset(FLOATS)
"""The dtypes that are cast, from and to: F64, F32, BF16 and F16."""

_EXACT = frozenset(
    {("F16", "F32"), ("F16", "F64"), ("BF16", "F32"), ("BF16", "F64"), ("F32", "F64")}
)
_HALF = 16
_QUIET = np.uint32(0x0040)
_LOWER_HALF_BELOW_TIE = np.uint32(0x7FFF)


def is_exact(before: str, after: str) -> bool:
    """Tell whether a cast keeps every value as it is."""
    return before == after or (before, after) in _EXACT


def cast(block: NDArray[np.uint8], before: str, after: str) -> NDArray[np.uint8]:
    """Return whole little-endian values of one dtype as those of another, as bytes."""
    if before == after:
        return block
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if (before, after) == ("F32", "F64"):
            return _bytes(block.view("<f4").astype("<f8"))
        single = _to_single(block, before)
        return _from_single(single, after)


def lost(block: NDArray[np.uint8], result: NDArray[np.uint8], before: str, after: str) -> Loss:
    """Return what one cast of a block did not keep."""
    old, new = FLOATS[before], FLOATS[after]
    given = block.view(old.bits) & old.magnitude_mask
    made = result.view(new.bits) & new.magnitude_mask
    return Loss(
        value_count=int(given.size),
        overflow_count=int(np.count_nonzero((made == new.infinity) & (given < old.infinity))),
        underflow_count=int(np.count_nonzero((made == 0) & (given != 0))),
    )


def _to_single(block: NDArray[np.uint8], before: str) -> NDArray[np.float32]:
    if before == "BF16":
        # A BF16 is the upper half of the F32 with the same value.
        return (block.view("<u2").astype(np.uint32) << _HALF).view(np.float32)
    source = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[before]
    return block.view(source).astype(np.float32, copy=False)


def _from_single(single: NDArray[np.float32], after: str) -> NDArray[np.uint8]:
    if after == "BF16":
        return _bytes(_bf16(single))
    return _bytes(single.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[after], copy=False))


def _bf16(single: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = single.view(np.uint32)
    upper = bits >> _HALF
    # Adding just below half a step, and one more where the kept part is odd, carries into the
    # kept bits exactly where rounding to the nearest even goes up, also into the exponent.
    rounded = (bits + (_LOWER_HALF_BELOW_TIE + (upper & 1))) >> _HALF
    is_nan = np.isnan(single)
    return np.where(is_nan, upper | _QUIET, rounded).astype("<u2")


def _bytes(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
