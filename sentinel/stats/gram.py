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

LARGEST_RANK = 4096
"""Above this a Gram matrix would outgrow the adapter; no adapter trains such a rank."""


def multiplicable(left: Tensor, right: Tensor) -> bool:
    """Tell whether left [m, r] times right [r, n] can be formed; kernels of ones may follow m, r.

    Further axes of ``right`` are a convolution's kernel and count as columns.
    """
    if len(left.shape) < 2 or len(right.shape) < 2:  # noqa: PLR2004 - a matrix has two axes
        return False
    rank = right.shape[0]
    fits = left.shape[1] == rank and all(extent == 1 for extent in left.shape[2:])
    known = is_decodable(left.dtype) and is_decodable(right.dtype)
    # Elsewhere the order of the elements does not matter; a product needs it.
    known = known and left.is_plain and right.is_plain
    return fits and known and 0 < rank <= LARGEST_RANK


def product_norm(
    left: Tensor, right: Tensor, open_member: Callable[[str], MemberFile]
) -> float | None:
    """Return the Frobenius norm of left [m, r] times right [r, n], None when it is not finite."""
    return frobenius_norm(*grams(left, right, open_member))


def grams(
    left: Tensor, right: Tensor, open_member: Callable[[str], MemberFile]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return leftᵀleft and right·rightᵀ, both [r, r], of left [m, r] and right [r, n]."""
    return (
        _gram(left, open_member, by_rows=True),
        _gram(right, open_member, by_rows=False),
    )


def frobenius_norm(left_gram: NDArray[np.float64], right_gram: NDArray[np.float64]) -> float | None:
    """Return the Frobenius norm of a product by its factors' `grams`, None when not finite."""
    norm = math.sqrt(max(0.0, float(np.sum(left_gram * right_gram))))
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
    if tensor.size_bytes <= BAND_BYTES:
        yield from row_pieces(tensor, open_member)
    else:
        yield from _bands(tensor, open_member, axis=1)


def _bands(
    tensor: Tensor, open_member: Callable[[str], MemberFile], *, axis: int
) -> Iterator[NDArray[np.float64]]:
    extent = tensor.shape[axis]
    step = max(1, BAND_BYTES * extent // tensor.size_bytes)
    for start in range(0, extent, step):
        count = min(step, extent - start)
        band = read_band(tensor, open_member, axis=axis, start=start, count=count)
        values = as_float64(tensor.dtype, band.reshape(-1))
        yield values.reshape(count if axis == 0 else tensor.shape[0], -1)
