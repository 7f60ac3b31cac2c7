"""Shapes and strides out of a file: checked, and what they say about where elements lie."""

from __future__ import annotations

import math
from typing import TypeGuard

_LARGEST = 2**63 - 1
_MOST_AXES = 64


Extents = tuple[tuple[int, ...], tuple[int, ...], int]
"""Shape, strides and the offset of the first element, the last two in elements."""


def check_extents(shape: object, strides: object, offset: object) -> Extents | None:
    """Return shape, strides and offset when they are what torch writes, else None."""
    if isinstance(shape, list):
        shape = tuple(shape)
    if isinstance(strides, list):
        strides = tuple(strides)
    if not _is_counts(shape) or not _is_counts(strides) or len(shape) != len(strides):
        return None
    if type(offset) is not int or not 0 <= offset <= _LARGEST or len(shape) > _MOST_AXES:
        return None
    # What follows counts elements in 64 bits, as torch does.
    return None if math.prod(shape) > _LARGEST else (shape, strides, offset)


def span_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return the elements from the first to the last of a tensor, gaps included."""
    if 0 in shape:
        return 0
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))


def is_row_major(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Tell whether the elements lie one after another in the order of the shape."""
    if 0 in shape:
        return True
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 1:
            continue
        if stride != expected:
            return False
        expected *= extent
    return True


def _is_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(
        type(number) is int and 0 <= number <= _LARGEST for number in value
    )
