"""The kernel: every statistic of a tensor from one pass over its bytes.

Small runs of values are NumPy's, large ones those of the compiled loops where there are any
(`sentinel.stats.compiled`); both find the same.

NaN, Inf, zero and subnormal are comparisons of the bit pattern, the same for every IEEE-like
format: with the sign masked off, a pattern below the smallest normal is zero or subnormal, one
at the infinity pattern is Inf, one above it NaN. Sums run in float64, so that no format
overflows into a false Inf.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sentinel.dtypes import BLOCKS, COMPLEX, DTYPES, unit_bytes
from sentinel.stats import compiled
from sentinel.stats.float8 import FLOAT4, FLOAT8, Float8
from sentinel.stats.floats import FLOATS, FP16_VANISHING, FloatFormat
from sentinel.stats.groups import block_groups, complex_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BLOCK_BYTES = 192 * 1024
"""Bytes a block: small enough for it and its temporaries to stay in a core's caches, large
enough for the work to outweigh NumPy's cost a call. Whole elements of every width fit, also of
6 bits, of which four take three bytes."""

COMPILED_BLOCK_BYTES = 1024 * 1024
"""The same where nothing but the bytes themselves is kept, and a call costs some microseconds."""

LARGE_BYTES = 16 * 1024
"""From here on the compiled kernel is asked: loading it costs what NumPy needs for a few."""

_SAFE_SQUARE = 1e150
"""Magnitudes between 1/this and this can be squared and summed in float64 as they are."""

_PIECE = 8192
"""Values in one dot product: below 10,000 OpenBLAS stays on the calling thread. Sentinel runs
beside a training and must not wake its cores."""

_ONES = np.ones(_PIECE)

_INTEGERS: dict[str, np.dtype[np.integer]] = {
    "BOOL": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}


_F6 = frozenset({"F6_E2M3", "F6_E3M2"})


class Moments(NamedTuple):
    """What is known about a run of values; None is "cannot be known", never zero.

    ``min`` to ``l2`` look at finite values only and are None when there are none; ``-0.0``
    counts as zero. Integers have no ``mean`` and no ``l2``: their bytes are often packed codes.
    ``below_fp16`` counts values other than zero that fp16 rounds to zero, those up to 2^-25.
    """

    numel: int = 0
    nan_count: int | None = 0
    inf_count: int | None = 0
    zero_count: int | None = 0
    subnormal_count: int | None = 0
    min: float | None = None
    max: float | None = None
    abs_max: float | None = None
    mean: float | None = None
    l2: float | None = None
    below_fp16: int | None = 0

    @property
    def finite_count(self) -> int:
        """Return how many values ``mean`` and ``l2`` are made of."""
        return self.numel - (self.nan_count or 0) - (self.inf_count or 0)


class Scratch:
    """The temporaries of one block, allocated once and used by every block after."""

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes
        self.magnitude = np.empty(block_bytes, np.uint8)
        self.below = np.empty(block_bytes // 2, np.bool_)
        self.single = np.empty(block_bytes // 2, np.float32)
        self.double = np.empty(block_bytes // 2, np.float64)


def merge(first: Moments, second: Moments) -> Moments:
    """Return the moments of two runs of values taken together.

    ``merge(moments_of(x), moments_of(y))`` equals ``moments_of(x + y)``, up to rounding in
    ``mean`` and ``l2``; ``Moments()`` changes nothing.
    """
    return Moments(
        numel=first.numel + second.numel,
        nan_count=_added(first.nan_count, second.nan_count),
        inf_count=_added(first.inf_count, second.inf_count),
        zero_count=_added(first.zero_count, second.zero_count),
        subnormal_count=_added(first.subnormal_count, second.subnormal_count),
        min=_either(min, first.min, second.min),
        max=_either(max, first.max, second.max),
        abs_max=_either(max, first.abs_max, second.abs_max),
        mean=_mean_of_both(first, second),
        l2=_either(math.hypot, first.l2, second.l2),
        below_fp16=_added(first.below_fp16, second.below_fp16),
    )


def moments_of(dtype: str, data: NDArray[np.uint8], scratch: Scratch | None = None) -> Moments:
    """Return the moments of the values in ``data``, raw little-endian bytes of a tensor.

    The length of ``data`` is a multiple of the element's size. A dtype whose values this
    kernel cannot tell apart has None for every count. Complex numbers have counts alone; of F6,
    which has no NaN and no Inf, nobody says in which order its bits lie, so that zeros are only
    known when all is zero. The values of a block type are counted by the scales of their block,
    see `sentinel.stats.groups`.
    """
    if data.size >= LARGE_BYTES and (found := _compiled_moments(dtype, data)) is not None:
        return found
    scratch = scratch or Scratch()
    step = scratch.block_bytes - scratch.block_bytes % unit_bytes(dtype)
    total = Moments()
    for start in range(0, data.size, step):
        total = merge(total, _numpy_moments(dtype, data[start : start + step], scratch))
    return total


def block_bytes() -> int:
    """Return how many bytes a reader had best give to `moments_of` at a time."""
    return COMPILED_BLOCK_BYTES if compiled.is_available() else BLOCK_BYTES


def _compiled_moments(dtype: str, data: NDArray[np.uint8]) -> Moments | None:
    """Return what the compiled kernel finds, None where there is none or it does not know how."""
    if dtype in FLOAT8:
        histogram = compiled.histogram(data)
        return None if histogram is None else _coded_moments(FLOAT8[dtype], histogram)
    if dtype in _INTEGERS:
        found = compiled.tally_integers(data.view(_INTEGERS[dtype]))
        return None if found is None else _integers(data.size // _INTEGERS[dtype].itemsize, *found)
    tally = compiled.tally_floats(dtype, data) if dtype in FLOATS else None
    return None if tally is None else moments_of_tally(tally, data.size * 8 // DTYPES[dtype].bits)


def moments_of_tally(tally: compiled.Tally, numel: int) -> Moments | None:
    """Return the moments of ``numel`` floats, None where their squares are beyond float64."""
    counts = (tally.nan, tally.inf, tally.zero, tally.subnormal)
    if not tally.finite:
        return Moments(numel, *counts, below_fp16=tally.below_fp16)
    top = max(abs(tally.min), abs(tally.max))
    if top and not 1 / _SAFE_SQUARE < top < _SAFE_SQUARE:
        return None
    ends = (tally.min, tally.max, top)
    mean, l2 = tally.sum / tally.finite, math.sqrt(tally.squares)
    return Moments(numel, *counts, *ends, mean, l2, tally.below_fp16)


def _numpy_moments(dtype: str, block: NDArray[np.uint8], scratch: Scratch) -> Moments:
    """Return the moments of one block, at most ``scratch.block_bytes`` bytes."""
    if not block.size:
        return Moments()
    if dtype in FLOATS:
        return _float_moments(FLOATS[dtype], block, scratch)
    if dtype in FLOAT8:
        return _coded_moments(FLOAT8[dtype], np.bincount(block, minlength=256))
    if dtype in _INTEGERS:
        return _integer_moments(block.view(_INTEGERS[dtype]))
    return _odd_moments(dtype, block)


def _odd_moments(dtype: str, block: NDArray[np.uint8]) -> Moments:
    """Return the moments of a block of values that share bytes or have parts."""
    if dtype == "F4":
        pairs = np.bincount(block, minlength=256).reshape(16, 16)
        return _coded_moments(FLOAT4, pairs.sum(axis=0) + pairs.sum(axis=1))
    if dtype in COMPLEX:
        found = complex_groups(dtype, block)
        return Moments(found.count, found.nan, found.inf, found.zero, None, below_fp16=None)
    if dtype in BLOCKS:
        found = block_groups(dtype, block)
        numel = found.count * found.values
        zero_count = numel if found.zero == found.count else None
        nan_count, inf_count = found.nan * found.values, found.inf * found.values
        return Moments(numel, nan_count, inf_count, zero_count, None, below_fp16=None)
    numel = block.size * 8 // (DTYPES[dtype].bits if dtype in DTYPES else 8)
    if dtype in _F6:
        return Moments(numel, 0, 0, None if block.any() else numel, None)
    return unmeasured(numel)


def unmeasured(numel: int) -> Moments:
    """Return the moments of values that nobody can read."""
    return Moments(numel, None, None, None, None, below_fp16=None)


def _float_moments(form: FloatFormat, block: NDArray[np.uint8], scratch: Scratch) -> Moments:
    bits = block.view(form.bits)
    size = bits.size
    magnitude = scratch.magnitude[: block.size].view(form.bits)
    np.bitwise_and(bits, form.magnitude_mask, out=magnitude)
    zero_count, subnormal_count, below_fp16 = _small_counts(form, magnitude, scratch.below[:size])
    nan_count = inf_count = 0
    if magnitude.max() >= form.infinity:
        inf_count = int(np.count_nonzero(magnitude == form.infinity))
        nan_count = int(np.count_nonzero(magnitude > form.infinity))
        bits = bits[magnitude < form.infinity]
    counts = Moments(size, nan_count, inf_count, zero_count, subnormal_count, below_fp16=below_fp16)
    return _with_values(counts, form.decode(bits, scratch.single), scratch.double)


def _small_counts(
    form: FloatFormat, magnitude: NDArray[np.unsignedinteger], room: NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Return how many values are zero, how many subnormal, how many vanish in fp16.

    Weights rarely hold any of them: telling them apart is done only when needed.
    """
    np.less_equal(magnitude, form.small, out=room)
    if not np.count_nonzero(room):
        return 0, 0, 0
    zero_count = magnitude.size - int(np.count_nonzero(magnitude))
    np.less(magnitude, form.smallest_normal, out=room)
    subnormal_count = int(np.count_nonzero(room)) - zero_count
    np.less_equal(magnitude, form.vanishing, out=room)
    return zero_count, subnormal_count, int(np.count_nonzero(room)) - zero_count


def _with_values(
    counts: Moments, values: NDArray[np.floating], buffer: NDArray[np.float64]
) -> Moments:
    """Add what finite ``values`` tell; ``buffer`` holds them as float64 meanwhile."""
    if not values.size:
        return counts
    low, high = float(values.min()), float(values.max())
    top = max(abs(low), abs(high))
    doubles = buffer[: values.size]
    np.copyto(doubles, values)
    scale = 1.0 if top == 0.0 or 1 / _SAFE_SQUARE < top < _SAFE_SQUARE else top
    if scale != 1.0:
        np.divide(doubles, scale, out=doubles)
    total, squares = _sums(doubles)
    return Moments(
        counts.numel,
        counts.nan_count,
        counts.inf_count,
        counts.zero_count,
        counts.subnormal_count,
        min=low,
        max=high,
        abs_max=top,
        mean=total / values.size * scale,
        l2=math.sqrt(squares) * scale,
        below_fp16=counts.below_fp16,
    )


def _sums(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum and the sum of squares, as dot products of one piece after another."""
    whole = values.size - values.size % _PIECE
    pieces, rest = values[:whole].reshape(-1, _PIECE), values[whole:]
    total = float(np.matmul(pieces[:, None, :], _ONES[:, None]).sum())
    squares = float(np.matmul(pieces[:, None, :], pieces[:, :, None]).sum())
    return total + float(rest.sum()), squares + float(np.dot(rest, rest))


def _coded_moments(form: Float8, histogram: NDArray[np.integer]) -> Moments:
    """Return the moments of values by how often each code occurs."""
    present = (histogram > 0) & form.finite
    weights = histogram[form.finite].astype(np.float64)
    values = form.values[form.finite]
    count = float(weights.sum())
    low = float(form.values[present].min()) if count else None
    high = float(form.values[present].max()) if count else None
    return Moments(
        numel=int(histogram.sum()),
        nan_count=int(histogram[form.nan].sum()),
        inf_count=int(histogram[form.inf].sum()),
        zero_count=int(histogram[form.zero].sum()),
        subnormal_count=int(histogram[form.subnormal].sum()),
        min=low,
        max=high,
        abs_max=max(abs(low), abs(high)) if low is not None and high is not None else None,
        mean=float(np.sum(weights * values)) / count if count else None,
        l2=math.sqrt(float(np.sum(weights * values * values))) if count else None,
        below_fp16=int(weights[(values != 0) & (np.abs(values) <= FP16_VANISHING)].sum()),
    )


def _integer_moments(values: NDArray[np.integer]) -> Moments:
    zero_count = values.size - int(np.count_nonzero(values))
    return _integers(values.size, zero_count, int(values.min()), int(values.max()))


def _integers(numel: int, zero_count: int, low: int, high: int) -> Moments:
    ends = float(low), float(high)
    return Moments(
        numel, zero_count=zero_count, min=ends[0], max=ends[1], abs_max=max(map(abs, ends))
    )


def _added(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _either(
    combine: Callable[[float, float], float], first: float | None, second: float | None
) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return combine(first, second)


def _mean_of_both(first: Moments, second: Moments) -> float | None:
    if first.mean is None or second.mean is None:
        return second.mean if first.mean is None else first.mean
    # Weighting before adding keeps two means near the largest double from overflowing.
    count = first.finite_count + second.finite_count
    return first.mean * (first.finite_count / count) + second.mean * (second.finite_count / count)
