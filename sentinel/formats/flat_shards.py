"""Tensors that a trainer laid flat, one after another, and cut anywhere between its processes.

What is left of one is runs of consecutive elements in several files. Each run is divided into
boxes of the tensor's shape: at most two for each axis but the last, and one more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sentinel.checkpoint import Piece, Tensor
from sentinel.dtypes import DTYPES


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive elements in one file; ``offset`` is that of the first one's first byte."""

    member: str
    offset: int
    count: int


class Flat:
    """One-dimensional tensors taken one after another as a row of elements.

    Raises ValueError when one is no plain row, or when they are of several dtypes.
    """

    def __init__(self, segments: Sequence[Tensor]) -> None:
        if any(len(one.shape) != 1 or not one.is_plain or one.pieces for one in segments):
            message = "a partition is no plain row of elements"
            raise ValueError(message)
        if len({one.dtype for one in segments}) > 1:
            message = "partitions are of several dtypes"
            raise ValueError(message)
        if any(one.dtype not in DTYPES or DTYPES[one.dtype].bits % 8 for one in segments):
            message = "a partition is of a dtype that no optimizer computes in"
            raise ValueError(message)
        self._segments = tuple(segments)
        self.dtype = segments[0].dtype if segments else ""
        self.numel = sum(one.numel for one in segments)

    def runs(self, start: int, count: int) -> Iterator[Run]:
        """Yield the runs of ``count`` elements from ``start`` on; ValueError beyond the end."""
        if start + count > self.numel:
            message = f"element {start + count} is asked for, there are {self.numel}"
            raise ValueError(message)
        item_bytes = DTYPES[self.dtype].bits // 8 if self.dtype else 0
        at = 0
        for segment in self._segments:
            low, high = max(start, at), min(start + count, at + segment.numel)
            if low < high:
                yield Run(segment.member, segment.offset + (low - at) * item_bytes, high - low)
            at += segment.numel


def tensor_of(name: str, dtype: str, shape: tuple[int, ...], runs: Sequence[Run]) -> Tensor:
    """Return the tensor that runs hold together; ValueError when they are too few or too many."""
    if sum(run.count for run in runs) != math.prod(shape):
        message = f"{sum(run.count for run in runs)} of {math.prod(shape)} elements are there"
        raise ValueError(message)
    item_bytes = DTYPES[dtype].bits // 8
    pieces = []
    start = 0
    for run in runs:
        offset = run.offset
        for place, extents in boxes_of(shape, start, run.count):
            size_bytes = math.prod(extents) * item_bytes
            pieces.append(Piece(run.member, offset, size_bytes, place, extents))
            offset += size_bytes
        start += run.count
    first = pieces[0] if pieces else Piece("", 0, 0, (), ())
    whole = Tensor(name, first.member, dtype, shape, first.offset, start * item_bytes)
    return whole if len(pieces) < 2 else _in_pieces(whole, pieces)  # noqa: PLR2004 - a piece is whole


def boxes_of(
    shape: tuple[int, ...], start: int, count: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield place and extents of boxes that hold a range of elements, in their order.

    The elements of each box are consecutive in the range.
    """
    if len(shape) < 2 or not count:  # noqa: PLR2004 - a row
        if count:
            yield (start,) * len(shape), (count,) * len(shape)
        return
    inner = math.prod(shape[1:])
    row, within = divmod(start, inner)
    if within or count < inner:
        head = min(count, inner - within)
        for place, extents in boxes_of(shape[1:], within, head):
            yield (row, *place), (1, *extents)
        count -= head
        row += 1
    if count >= inner:
        yield (row, *(0 for _ in shape[1:])), (count // inner, *shape[1:])
    for place, extents in boxes_of(shape[1:], 0, count % inner):
        yield (row + count // inner, *place), (1, *extents)


def _in_pieces(whole: Tensor, pieces: Sequence[Piece]) -> Tensor:
    return Tensor(
        whole.name,
        whole.member,
        whole.dtype,
        whole.shape,
        whole.offset,
        whole.size_bytes,
        pieces=tuple(pieces),
    )
