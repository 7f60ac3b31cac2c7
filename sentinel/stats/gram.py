"""Gram matrices of an adapter's thin matrices, read piece by piece.

``‖B·A‖² = trace((BᵀB)(AAᵀ))``: the Frobenius norm of a product follows from two matrices of the
rank's size, so nothing of the size of the base weight is formed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sentinel.stats import compiled
from sentinel.stats.bands import BAND_BYTES, read_band
from sentinel.stats.moments import LARGE_BYTES
from sentinel.stats.values import as_float64, is_decodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.reading import MemberFile

    Gram: TypeAlias = NDArray[np.float64]
    Grams: TypeAlias = tuple[Gram, Gram]

LARGEST_RANK = 2048
"""No adapter trains a larger one, and three Gram matrices of it take 100 MB."""

LARGEST_KERNEL = 4096
"""Elements of a convolution's kernel: a band is at least one column, kernel and all."""

_BAND_ELEMENTS = BAND_BYTES // 8


def multiplicable(left: Tensor, right: Tensor) -> bool:
    """Tell whether left [m, r] times right [r, n] can be formed; kernels of ones may follow m, r.

    Further axes of ``right`` are a convolution's kernel and count as columns.
    """
    if len(left.shape) < 2 or len(right.shape) < 2:  # noqa: PLR2004 - a matrix has two axes
        return False
    rank = right.shape[0]
    kernel = math.prod(right.shape[2:])
    fits = left.shape[1] == rank and all(extent == 1 for extent in left.shape[2:])
    known = is_decodable(left.dtype) and is_decodable(right.dtype)
    # Elsewhere the order of the elements does not matter; a product needs it.
    known = known and left.is_plain and right.is_plain
    return fits and known and 0 < rank <= LARGEST_RANK and kernel <= LARGEST_KERNEL


def is_diagonal(middle: Tensor, right: Tensor) -> bool:
    """Tell whether a tensor holds one factor for each row of ``right``, and can be read."""
    return middle.numel == right.shape[0] and middle.is_plain and is_decodable(middle.dtype)


def product_norm(
    left: Tensor,
    right: Tensor,
    open_member: Callable[[str], MemberFile],
    *,
    middle: Tensor | None = None,
) -> float | None:
    """Return the Frobenius norm of left [m, r] times right [r, n], None when it is not finite.

    ``middle`` holds r factors that the rows of ``right`` are multiplied with before.
    """
    return frobenius_norm(*grams(left, right, open_member, middle=middle))


def grams(
    left: Tensor,
    right: Tensor,
    open_member: Callable[[str], MemberFile],
    *,
    middle: Tensor | None = None,
    known: tuple[Gram | None, Gram | None] = (None, None),
) -> Grams:
    """Return leftᵀleft and right·rightᵀ, both [r, r], of left [m, r] and right [r, n].

    ``middle`` is as in `product_norm`; a matrix whose Gram matrix is ``known`` is not read.
    """
    left_gram, right_gram = known
    if left_gram is None:
        left_gram = _gram(left, open_member, by_rows=True)
    if right_gram is None:
        right_gram = _gram(right, open_member, by_rows=False)
    if middle is not None:
        factors = np.concatenate(list(row_pieces(middle, open_member))).reshape(-1)
        right_gram = right_gram * np.outer(factors, factors)
    return left_gram, right_gram


def gram_of(dtype: str, data: NDArray[np.uint8], rank: int, *, by_rows: bool) -> Gram:
    """Return MᵀM of a tall matrix [m, r] (``by_rows``) or MMᵀ of a wide one [r, n], both [r, r].

    ``data`` are its raw little-endian bytes, row by row; all products and sums are float64's.
    """
    if (
        data.size >= LARGE_BYTES
        and (found := compiled.gram(dtype, data, rank, by_rows=by_rows)) is not None
    ):
        return found
    values = as_float64(dtype, data)
    if by_rows:
        tall = values.reshape(-1, rank)
        return tall.T @ tall
    wide = values.reshape(rank, -1)
    return wide @ wide.T


def frobenius_norm(left_gram: Gram, right_gram: Gram) -> float | None:
    """Return the Frobenius norm of a product by its factors' `grams`, None when not finite."""
    squared = float(np.vdot(left_gram, right_gram))
    return math.sqrt(max(0.0, squared)) if math.isfinite(squared) else None


def row_pieces(
    tensor: Tensor, open_member: Callable[[str], MemberFile]
) -> Iterator[NDArray[np.float64]]:
    """Yield a matrix in bands of whole rows [count, columns], axes behind the first as one."""
    if tensor.numel:
        for band in _bands(tensor, open_member, axis=0):
            yield as_float64(tensor.dtype, band.reshape(-1)).reshape(len(band), -1)


def _gram(tensor: Tensor, open_member: Callable[[str], MemberFile], *, by_rows: bool) -> Gram:
    """Return the Gram matrix [r, r] of a tall matrix (``by_rows``) or a wide one."""
    rows = tensor.shape[0]
    rank = (tensor.numel // rows if rows else 0) if by_rows else rows
    gram = np.zeros((rank, rank))
    if tensor.numel:
        # Of a wide matrix every row's part of a band lies apart.
        axis = 0 if by_rows or tensor.numel <= _BAND_ELEMENTS else 1
        for band in _bands(tensor, open_member, axis=axis):
            gram += gram_of(tensor.dtype, band.reshape(-1), rank, by_rows=by_rows)
    return gram


def _bands(
    tensor: Tensor, open_member: Callable[[str], MemberFile], *, axis: int
) -> Iterator[NDArray[np.uint8]]:
    extent = tensor.shape[axis]
    # Counted as float64, which takes up to eight times the bytes of the file.
    step = max(1, _BAND_ELEMENTS * extent // tensor.numel)
    for start in range(0, extent, step):
        count = min(step, extent - start)
        yield read_band(tensor, open_member, axis=axis, start=start, count=count)
