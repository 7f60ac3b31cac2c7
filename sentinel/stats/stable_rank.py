"""How many directions a low-rank product really uses.

The stable rank ‖M‖_F² / ‖M‖₂² lies between 1 and the rank, and unlike the rank it does not jump
when a direction becomes merely small: https://arxiv.org/abs/1501.01571, section 2.1.15.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 60
_CLOSE = 1e-6
_SQUARED_RANK = 32
"""Up to this rank six products of matrices cost less than the rounds they stand for."""
_SQUARINGS = 6
_LAST_ROUNDS = 4
_TINY = 1e-200
"""Norms below this may lose their squares."""


def stable_rank(left_gram: NDArray[np.float64], right_gram: NDArray[np.float64]) -> float | None:
    """Return the stable rank of a product by the Gram matrices [r, r] of its two factors.

    None for a product that is zero or not finite. The eigenvalues of leftᵀleft·right·rightᵀ are
    the squared singular values of the product; the largest comes from power iteration, whose
    Rayleigh quotient never exceeds it, so that the result errs to the high side (by less than
    a percent unless the first two nearly tie).
    """
    first, second = _normal(left_gram), _normal(right_gram)
    if first is None or second is None:
        return None
    total = float(np.sum(first * second))
    largest = _largest(first, second)
    if not total > 0 or not largest > 0:
        return None
    return max(1.0, total / largest)


def _normal(gram: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a Gram matrix of trace 1; its size does not matter here, and could overflow."""
    trace = float(np.trace(gram))
    return gram / trace if math.isfinite(trace) and trace > _TINY else None


def _largest(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    is_small = first.shape[0] <= _SQUARED_RANK
    vector = _begun(first, second) if is_small else _start(first.shape[0])
    largest = 0.0
    for _ in range(_LAST_ROUNDS if is_small else _ROUNDS):
        weighted = second.dot(vector)
        size = float(vector.dot(weighted))
        following = first.dot(weighted)
        if not size > 0:
            return largest
        found = float(weighted.dot(following)) / size
        if abs(found - largest) <= _CLOSE * found:
            return found
        largest = found
        vector = following / max(math.sqrt(following.dot(following)), _TINY)
    return largest


def _begun(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector that 64 rounds have gone over: squaring the product is those rounds."""
    vector = _start(first.shape[0])
    power = first.dot(second)
    for _ in range(_SQUARINGS):
        trace = float(power.trace())
        if not trace > _TINY:
            return vector
        power = power / trace
        power = power.dot(power)
    found = power.dot(vector)
    size = math.sqrt(found.dot(found))
    return found / size if size > _TINY else vector


@lru_cache(64)
def _start(rank: int) -> NDArray[np.float64]:
    """Return a vector that lies in no plane anybody builds, and the same each time."""
    vector: NDArray[np.float64] = np.modf(np.sin(np.arange(1.0, rank + 1)) * 43758.5453)[0]
    vector.setflags(write=False)
    return vector
