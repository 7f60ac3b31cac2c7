"""Whether boxes cover a tensor exactly: no element twice, none left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""The index of the first element, and the extents."""

LARGEST_IRREGULAR = 2048
"""Boxes that form no grid are compared with each other, every one with every other."""


def tiling_mistake(shape: tuple[int, ...], boxes: Sequence[Box]) -> str | None:
    """Return what keeps non-empty boxes from tiling a shape, None when they do.

    A grid, which every way of sharding makes, is seen in one pass over the boxes.
    """
    return (
        _outside(shape, boxes)
        or _miscounted(shape, boxes)
        or (None if not boxes or _is_grid(shape, boxes) else _irregular(boxes))
    )


def _outside(shape: tuple[int, ...], boxes: Sequence[Box]) -> str | None:
    for place, extents in boxes:
        if len(place) != len(shape) or len(extents) != len(shape):
            return f"has a chunk of {len(extents)} axes, its shape has {len(shape)}"
        ends = map(sum, zip(place, extents, strict=True))
        if any(end > extent for end, extent in zip(ends, shape, strict=True)):
            return f"has a chunk at {_text(place)} of {_text(extents)} that leaves its shape"
    return None


def _miscounted(shape: tuple[int, ...], boxes: Sequence[Box]) -> str | None:
    covered, total = sum(math.prod(extents) for _, extents in boxes), math.prod(shape)
    if covered > total or len({place for place, _ in boxes}) != len(boxes):
        return "has chunks that overlap"
    return f"has chunks for {covered} of its {total} elements" if covered < total else None


def _irregular(boxes: Sequence[Box]) -> str | None:
    if len(boxes) > LARGEST_IRREGULAR:
        return f"has {len(boxes)} chunks that form no grid"
    begins = np.array([place for place, _ in boxes])
    ends = begins + np.array([extents for _, extents in boxes])
    overlap = any(
        np.all((begins[at] < ends[:at]) & (begins[:at] < ends[at]), axis=1).any()
        for at in range(1, len(boxes))
    )
    return "has chunks that overlap" if overlap else None


def _is_grid(shape: tuple[int, ...], boxes: Sequence[Box]) -> bool:
    """Tell whether every box reaches to the next cut on every axis, and every cell is there."""
    cells = 1
    for axis, extent in enumerate(shape):
        cuts = sorted({place[axis] for place, _ in boxes})
        following = dict(zip(cuts, [*cuts[1:], extent], strict=True))
        if any(place[axis] + extents[axis] != following[place[axis]] for place, extents in boxes):
            return False
        cells *= len(cuts)
    return cells == len(boxes)


def _text(extents: tuple[int, ...]) -> str:
    return f"{list(extents)!s:.100}"
