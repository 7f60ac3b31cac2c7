"""Gram matrices of an adapter's thin matrices, read piece by piece.

``‖B·A‖² = trace((BᵀB)(AAᵀ))``: the Frobenius norm of a product follows from two matrices of the
rank's size, so nothing of the size of the base weight is formed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sentinel.stats.values import as_float64, is_decodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.reading import MemberFile

PIECE_BYTES = 8 * 1024 * 1024
"""Bytes of a matrix in memory at a time."""

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
    left_gram = _gram(left, open_member(left.member), by_rows=True)
    right_gram = _gram(right, open_member(right.member), by_rows=False)
    norm = math.sqrt(max(0.0, float(np.sum(left_gram * right_gram))))
    return norm if math.isfinite(norm) else None


def row_pieces(tensor: Tensor, file: MemberFile) -> Iterator[NDArray[np.float64]]:
    """Yield a matrix in bands of whole rows [count, columns], axes behind the first as one."""
    rows = tensor.shape[0]
    columns = tensor.numel // rows if rows else 0
    if not rows * columns:
        return
    row_bytes = tensor.size_bytes // rows
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        data = file.read(tensor.offset + start * row_bytes, count * row_bytes)
        yield as_float64(tensor.dtype, data).reshape(count, columns)


def _gram(tensor: Tensor, file: MemberFile, *, by_rows: bool) -> NDArray[np.float64]:
    """Return MᵀM of a tall matrix (``by_rows``) or MMᵀ of a wide one, both [r, r]."""
    rows = tensor.shape[0]
    rank = (tensor.numel // rows if rows else 0) if by_rows else rows
    gram = np.zeros((rank, rank))
    pieces = row_pieces if by_rows else _column_pieces
    for piece in pieces(tensor, file):
        gram += piece.T @ piece if by_rows else piece @ piece.T
    return gram


def _column_pieces(tensor: Tensor, file: MemberFile) -> Iterator[NDArray[np.float64]]:
    """Yield a wide matrix in bands of columns: every row's part of the band lies apart."""
    if tensor.size_bytes <= PIECE_BYTES:
        yield from row_pieces(tensor, file)
        return
    rows = tensor.shape[0]
    columns = tensor.numel // rows
    item_bytes = tensor.size_bytes // tensor.numel
    step = max(1, PIECE_BYTES // (rows * item_bytes))
    for start in range(0, columns, step):
        count = min(step, columns - start)
        band = np.empty((rows, count))
        for row in range(rows):
            begin = tensor.offset + (row * columns + start) * item_bytes
            band[row] = as_float64(tensor.dtype, file.read(begin, count * item_bytes))
        yield band
