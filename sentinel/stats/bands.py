"""Parts of a tensor put together from wherever its elements lie: one place, or pieces of shards.

Only for plain tensors of whole bytes an element: their boxes hold their elements row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.dtypes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from sentinel.checkpoint import Piece, Tensor
    from sentinel.stats.reading import MemberFile

BAND_BYTES = 8 * 1024 * 1024
"""Bytes of a tensor in memory at a time."""


def read_band(
    tensor: Tensor,
    open_member: Callable[[str], MemberFile],
    *,
    axis: int,
    start: int,
    count: int,
) -> NDArray[np.uint8]:
    """Return the elements whose index on ``axis`` (0 or 1) is one of ``count`` from ``start`` on.

    The result has the tensor's shape with ``count`` on that axis, and the bytes of an element as
    one axis more.
    """
    extents = list(tensor.shape)
    extents[axis] = count
    band = np.empty((*extents, _item_bytes(tensor)), np.uint8)
    for box in tensor.boxes:
        low = max(start, box.place[axis])
        high = min(start + count, box.place[axis] + box.shape[axis])
        if low >= high:
            continue
        part = _part(box, open_member(box.member), axis, (low, high), band.shape[-1])
        place = [slice(at, at + n) for at, n in zip(box.place, box.shape, strict=True)]
        place[axis] = slice(low - start, high - start)
        band[tuple(place)] = part
    return band


def in_rows(
    tensor: Tensor, open_member: Callable[[str], MemberFile], buffer: NDArray[np.uint8]
) -> Iterator[NDArray[np.uint8]]:
    """Yield all bytes in the order of the shape, in pieces of the buffer's size, in the buffer.

    Beside the buffer a band of whole rows is held.
    """
    rows = tensor.shape[0] if tensor.shape else 1
    step = max(1, BAND_BYTES // max(1, row_bytes(tensor)))
    filled = 0
    for start in range(0, rows, step):
        band = read_band(tensor, open_member, axis=0, start=start, count=min(step, rows - start))
        left = band.reshape(-1)
        while left.size:
            taken = left[: buffer.size - filled]
            buffer[filled : filled + taken.size] = taken
            left, filled = left[taken.size :], filled + taken.size
            if filled == buffer.size:
                yield buffer
                filled = 0
    if filled:
        yield buffer[:filled]


def row_bytes(tensor: Tensor) -> int:
    """Return the bytes of the elements that share an index on the first axis."""
    rows = tensor.shape[0] if tensor.shape else 1
    return tensor.size_bytes // rows if rows else 0


def _part(
    box: Piece, file: MemberFile, axis: int, span: tuple[int, int], item_bytes: int
) -> NDArray[np.uint8]:
    """Read what a box holds between two indices of the whole tensor's axis."""
    low, high = (index - box.place[axis] for index in span)
    extents = list(box.shape)
    extents[axis] = high - low
    inner = item_bytes
    for extent in box.shape[axis + 1 :]:
        inner *= extent
    run_bytes = (high - low) * inner
    outer = box.shape[0] if axis else 1
    found = np.empty((outer, run_bytes), np.uint8)
    for at in range(outer):
        file.read_into(box.offset + (at * box.shape[axis] + low) * inner, found[at])
    return found.reshape(*extents, item_bytes)


def _item_bytes(tensor: Tensor) -> int:
    return DTYPES[tensor.dtype].bits // 8
