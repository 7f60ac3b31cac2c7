"""The integer part of the kernel alone: which values are NaN, Inf and zero, and nothing else.

Two comparisons a value, so that it runs at the speed at which memory is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.dtypes import unit_bytes
from sentinel.stats import compiled
from sentinel.stats.floats import FLOATS
from sentinel.stats.moments import LARGE_BYTES, Moments, Scratch, merge, moments_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.stats.floats import FloatFormat


def screen_of(dtype: str, data: NDArray[np.uint8], scratch: Scratch | None = None) -> Moments:
    """Return how many of the values in ``data`` are NaN, Inf and zero, as `moments_of` counts.

    ``data`` holds raw little-endian bytes of whole elements. What takes arithmetic (the sums, the
    extremes) or another comparison (subnormals) is None. Dtypes that are counted by their codes
    are counted whole: for them there is nothing to save.
    """
    if dtype not in FLOATS:
        return moments_of(dtype, data, scratch)
    numel = data.size // unit_bytes(dtype)
    if data.size >= LARGE_BYTES and (counts := compiled.screen_floats(dtype, data)) is not None:
        return _counted(numel, *counts)
    scratch = scratch or Scratch()
    total = _counted(0, 0, 0, 0)
    for start in range(0, data.size, scratch.block_bytes):
        block = data[start : start + scratch.block_bytes]
        total = merge(total, _numpy_screen(FLOATS[dtype], block, scratch))
    return total


def _numpy_screen(form: FloatFormat, block: NDArray[np.uint8], scratch: Scratch) -> Moments:
    bits = block.view(form.bits)
    magnitude = scratch.magnitude[: block.size].view(form.bits)
    np.bitwise_and(bits, form.magnitude_mask, out=magnitude)
    zero_count = magnitude.size - int(np.count_nonzero(magnitude))
    nan_count = inf_count = 0
    if magnitude.max() >= form.infinity:
        inf_count = int(np.count_nonzero(magnitude == form.infinity))
        nan_count = int(np.count_nonzero(magnitude > form.infinity))
    return _counted(magnitude.size, nan_count, inf_count, zero_count)


def _counted(numel: int, nan_count: int, inf_count: int, zero_count: int) -> Moments:
    return Moments(numel, nan_count, inf_count, zero_count, None, below_fp16=None)
