"""What changed between two versions of one tensor: both read in blocks, element by element."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sentinel.dtypes import BLOCKS, COMPLEX, DTYPES, unit_bytes
from sentinel.stats.bands import BAND_BYTES, in_rows, row_bytes
from sentinel.stats.float8 import FLOAT8
from sentinel.stats.floats import FLOATS
from sentinel.stats.values import as_float64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.reading import MemberFiles

BLOCK_ELEMENTS = 1 << 17
"""Elements compared at a time: a multiple of 8, so that packed elements end with a byte."""

_BYTE_BITS = 8
_NUMBERS = {
    "BOOL": "<u1",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How two tensors of one shape differ.

    ``identical_count`` counts the elements with the same bits, or with the same value where the
    dtypes differ. The norms and the largest change are over the elements that are finite in
    both, in float64; they are None where a dtype has no known values or a sum overflows.
    ``non_finite_count`` counts the other elements.
    """

    numel: int
    identical_count: int
    change_l2: float | None = None
    first_l2: float | None = None
    largest: float | None = None
    non_finite_count: int = 0

    @property
    def is_identical(self) -> bool:
        """Tell whether no element differs."""
        return self.identical_count == self.numel


def is_comparable(first: Tensor, second: Tensor) -> bool:
    """Tell whether `difference` can compare the elements of two tensors."""
    if first.shape != second.shape or not (first.is_dense and second.is_dense):
        return False
    if _order(first) != _order(second):
        return False
    if first.dtype == second.dtype:
        known = first.dtype in DTYPES or first.dtype in BLOCKS or first.dtype in COMPLEX
        return known and first.size_bytes == second.size_bytes
    return _has_values(first.dtype) and _has_values(second.dtype)


def difference(
    first: Tensor, second: Tensor, first_files: MemberFiles, second_files: MemberFiles
) -> Difference:
    """Compare two comparable tensors, holding a block of each in memory.

    Raises ChangedWhileReadError and UnreadableError as reading does.
    """
    total = _Total(first, second)
    pieces = zip(_blocks(first, first_files), _blocks(second, second_files), strict=True)
    for ours, theirs in pieces:
        total.add(ours, theirs)
    return total.difference()


class _Total:
    """Sums over the blocks of two tensors."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self._dtypes = (first.dtype, second.dtype)
        self._numel = first.numel
        self._valued = all(map(_has_values, self._dtypes))
        self._identical = 0
        self._non_finite = 0
        self._change = 0.0
        self._first = 0.0
        self._largest = 0.0

    def add(self, ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> None:
        same_dtype = self._dtypes[0] == self._dtypes[1]
        if same_dtype:
            self._identical += _same_bits(self._dtypes[0], ours, theirs)
        if not self._valued:
            return
        before, after = (
            _values(dtype, data) for dtype, data in zip(self._dtypes, (ours, theirs), strict=True)
        )
        if not same_dtype:
            equal = (before == after) | (np.isnan(before) & np.isnan(after))
            self._identical += int(np.count_nonzero(equal))
        finite = np.isfinite(before) & np.isfinite(after)
        if not finite.all():
            self._non_finite += int(finite.size - np.count_nonzero(finite))
            before, after = before[finite], after[finite]
        with np.errstate(over="ignore"):
            self._first += _squared(before)
            change = np.subtract(after, before, out=after)
            self._change += _squared(change)
        np.abs(change, out=change)
        self._largest = max(self._largest, float(change.max(initial=0.0)))

    def difference(self) -> Difference:
        identical = min(self._identical, self._numel)
        if not self._valued:
            return Difference(self._numel, identical)
        return Difference(
            self._numel,
            identical,
            change_l2=_finite(math.sqrt(self._change)),
            first_l2=_finite(math.sqrt(self._first)),
            largest=_finite(self._largest),
            non_finite_count=self._non_finite,
        )


def _order(tensor: Tensor) -> tuple[object, ...] | None:
    """Return how the elements lie, None where they are read in the order of the shape."""
    if tensor.pieces:
        boxes = ((box.place, box.shape, box.strides) for box in tensor.pieces)
        return None if _is_joinable(tensor) else tuple(boxes)
    if tensor.strides is None:
        return None
    expected = 1
    for stride, extent in zip(reversed(tensor.strides), reversed(tensor.shape), strict=True):
        if extent > 1 and stride != expected:
            return tensor.strides
        expected *= extent
    return None


def _is_joinable(tensor: Tensor) -> bool:
    """Tell whether pieces of shards can be put together in bounded memory."""
    has_bytes = tensor.dtype in DTYPES and DTYPES[tensor.dtype].bits % _BYTE_BITS == 0
    return has_bytes and tensor.is_plain and row_bytes(tensor) <= BAND_BYTES


def _blocks(tensor: Tensor, files: MemberFiles) -> Iterator[NDArray[np.uint8]]:
    buffer = _buffer(tensor)
    if tensor.pieces and _is_joinable(tensor):
        return in_rows(tensor, files.open, buffer)
    return files.blocks(tensor, buffer)


def _has_values(dtype: str) -> bool:
    return dtype in FLOATS or dtype in FLOAT8 or dtype in _NUMBERS


def _buffer(tensor: Tensor) -> NDArray[np.uint8]:
    if tensor.dtype in DTYPES:
        whole = BLOCK_ELEMENTS * DTYPES[tensor.dtype].bits // _BYTE_BITS
    else:
        whole = BLOCK_ELEMENTS // _BYTE_BITS * unit_bytes(tensor.dtype)
    return np.empty(min(whole, max(tensor.size_bytes, 1)), np.uint8)


def _same_bits(dtype: str, ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> int:
    """Count the elements with the same bits; of a block type those of blocks that are the same."""
    if dtype not in DTYPES:
        same = (ours == theirs).reshape(-1, unit_bytes(dtype)).all(axis=1)
        return int(np.count_nonzero(same)) * (BLOCKS[dtype].elements if dtype in BLOCKS else 1)
    bits = DTYPES[dtype].bits
    if bits % _BYTE_BITS == 0:
        width = f"<u{bits // _BYTE_BITS}"
        return int(np.count_nonzero(ours.view(width) == theirs.view(width)))
    changed = np.unpackbits(ours ^ theirs, bitorder="little")
    elements = changed[: changed.size // bits * bits].reshape(-1, bits)
    return int(np.count_nonzero(~elements.any(axis=1)))


def _values(dtype: str, data: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the values as float64, NaN and infinities among them."""
    if dtype in _NUMBERS:
        return data.view(_NUMBERS[dtype]).astype(np.float64)
    # Widening a signalling NaN is an invalid operation to NumPy, and an ordinary value to us.
    with np.errstate(invalid="ignore"):
        values = as_float64(dtype, data)
    if dtype in FLOAT8:
        form = FLOAT8[dtype]
        values[form.nan[data]] = np.nan
        infinite = form.inf[data]
        # The sign is the highest bit of the code.
        values[infinite] = np.where(data[infinite] >> 7, -np.inf, np.inf)
    elif dtype == "F16":
        # The kernel's own way from F16 to F32 knows finite values only.
        bits = data.view("<u2")
        odd = (bits & FLOATS[dtype].magnitude_mask) >= FLOATS[dtype].infinity
        values[odd] = bits[odd].view("<f2")
    return values


def _squared(values: NDArray[np.float64]) -> float:
    # Not a dot product: BLAS would wake cores that a training beside us needs.
    return float(np.square(values).sum())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
