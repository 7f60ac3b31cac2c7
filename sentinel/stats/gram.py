"""Gram matrices of an adapter's thin matrices, read piece by piece.

``‖B·A‖² = trace((BᵀB)(AAᵀ))``: the Frobenius norm of a product follows from two matrices of the
rank's size, so nothing of the size of the base weight is formed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sentinel.stats.bands import BAND_BYTES, read_band
from sentinel.stats.values import as_float64, is_decodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.reading import MemberFile

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
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return leftᵀleft and right·rightᵀ, both [r, r], of left [m, r] and right [r, n].

    ``middle`` is as in `product_norm`.
    """
    left_gram = _gram(left, open_member, by_rows=True)
    right_gram = _gram(right, open_member, by_rows=False)
    if middle is not None:
        factors = np.concatenate(list(row_pieces(middle, open_member))).reshape(-1)
        right_gram *= np.outer(factors, factors)
    return left_gram, right_gram


def frobenius_norm(left_gram: NDArray[np.float64], right_gram: NDArray[np.float64]) -> float | None:
    """Return the Frobenius norm of a product by its factors' `grams`, None when not finite."""
    norm = math.sqrt(max(0.0, float(np.vdot(left_gram, right_gram))))
    return norm if math.isfinite(norm) else None


def row_pieces(
    tensor: Tensor, open_member: Callable[[str], MemberFile]
) -> Iterator[NDArray[np.float64]]:
    """Yield a matrix in bands of whole rows [count, columns], axes behind the first as one."""
    if tensor.numel:
        yield from _bands(tensor, open_member, axis=0)


def _gram(
    tensor: Tensor, open_member: Callable[[str], MemberFile], *, by_rows: bool
) -> NDArray[np.float64]:
    """Return MᵀM of a tall matrix (``by_rows``) or MMᵀ of a wide one, both [r, r]."""
    rows = tensor.shape[0]
    rank = (tensor.numel // rows if rows else 0) if by_rows else rows
    gram = np.zeros((rank, rank))
    pieces = row_pieces if by_rows else _column_pieces
    for piece in pieces(tensor, open_member):
        gram += piece.T @ piece if by_rows else piece @ piece.T
    return gram


def _column_pieces(
    tensor: Tensor, open_member: Callable[[str], MemberFile]
) -> Iterator[NDArray[np.float64]]:
    """Yield a wide matrix in bands of columns: every row's part of the band lies apart."""
    if tensor.numel <= _BAND_ELEMENTS:
        yield from row_pieces(tensor, open_member)
    else:
        yield from _bands(tensor, open_member, axis=1)


def _bands(
    tensor: Tensor, open_member: Callable[[str], MemberFile], *, axis: int
) -> Iterator[NDArray[np.float64]]:
    extent = tensor.shape[axis]
    # Counted as float64, which takes up to eight times the bytes of the file.
    step = max(1, _BAND_ELEMENTS * extent // tensor.numel)
    for start in range(0, extent, step):
        count = min(step, extent - start)
        band = read_band(tensor, open_member, axis=axis, start=start, count=count)
        values = as_float64(tensor.dtype, band.reshape(-1))
        yield values.reshape(count if axis == 0 else tensor.shape[0], -1)
