"""Values whose kind several floats decide: complex numbers, and blocks with their scales.

A group with a NaN in it is NaN, else one with an Inf is Inf; it is zero when all in it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.dtypes import BLOCKS, COMPLEX
from sentinel.stats.float8 import FLOAT8
from sentinel.stats.floats import FLOATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sentinel.dtypes import Scale

_SPREAD_SHIFTS = np.array([12, 8, 4, 0], np.uint16)
_HIGHEST_FOUR = np.uint16(0xF000)


@dataclass(frozen=True, slots=True)
class Groups:
    """How many groups of each kind there are, and how many values each stands for."""

    values: int
    count: int
    nan: int
    inf: int
    zero: int


def complex_groups(dtype: str, data: NDArray[np.uint8]) -> Groups:
    """Count complex numbers by their two parts."""
    form = FLOATS[COMPLEX[dtype]]
    return _counted(1, *_kinds(COMPLEX[dtype], data.view(form.bits).reshape(-1, 2)))


def block_groups(dtype: str, data: NDArray[np.uint8]) -> Groups:
    """Count blocks by their scales, or where a block has several in a row its shares by theirs.

    The codes are not looked at: they have no NaN and no Inf. With finite scales every value is
    finite, with scales of zero every value is zero; values that a finite scale and a zero code
    make zero are not seen. Scales of eight bits are what their own format says, though ggml
    reads the NaN of E4M3 as zero and that of E8M0 as 2**127: no quantiser writes these codes.
    """
    form = BLOCKS[dtype]
    blocks = data.reshape(-1, form.size_bytes)
    shares = max(scale.count for scale in form.scales)
    nan = inf = np.zeros((len(blocks), shares), np.bool_)
    zero = ~nan
    for scale in form.scales:
        is_nan, is_inf, is_zero = _kinds(_dtype(scale), _codes(scale, blocks))
        nan, inf, zero = nan | is_nan, inf | is_inf, zero & is_zero
    return _counted(
        form.elements // shares, nan.reshape(-1, 1), inf.reshape(-1, 1), zero.reshape(-1, 1)
    )


def _counted(
    values: int, nan: NDArray[np.bool_], inf: NDArray[np.bool_], zero: NDArray[np.bool_]
) -> Groups:
    """Return the counts of groups, one a row of what their parts are."""
    any_nan = _across(np.logical_or, nan)
    return Groups(
        values=values,
        count=len(nan),
        nan=int(np.count_nonzero(any_nan)),
        inf=int(np.count_nonzero(_across(np.logical_or, inf) & ~any_nan)),
        zero=int(np.count_nonzero(_across(np.logical_and, zero))),
    )


def _across(combine: np.ufunc, parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what each row's few parts make together; column by column is ten times as fast."""
    whole = parts[:, 0]
    for column in range(1, parts.shape[1]):
        whole = combine(whole, parts[:, column])
    return whole


def _dtype(scale: Scale) -> str:
    return "F16" if scale.format == "F16_SPREAD" else scale.format


def _codes(scale: Scale, blocks: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """Return the bit patterns of a scale, one row a block."""
    raw = np.ascontiguousarray(blocks[:, scale.offset : scale.offset + scale.size_bytes])
    if scale.format in FLOAT8:
        return raw
    words = raw.view(f"<u{scale.word_bytes}")
    if scale.format != "F16_SPREAD":
        return words
    # Each word of IQ1_M carries four of the sixteen bits at its top, the lowest first.
    spread = (words & _HIGHEST_FOUR) >> _SPREAD_SHIFTS
    return np.bitwise_or.reduce(spread, axis=1, keepdims=True)


def _kinds(
    dtype: str, codes: NDArray[np.unsignedinteger]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which bit patterns are NaN, which Inf and which zero."""
    if dtype in FLOAT8:
        table = FLOAT8[dtype]
        return table.nan[codes], table.inf[codes], table.zero[codes]
    form = FLOATS[dtype]
    magnitude = codes & form.magnitude_mask
    return magnitude > form.infinity, magnitude == form.infinity, magnitude == 0
