"""How many directions a low-rank product really uses.

The stable rank ‖M‖_F² / ‖M‖₂² lies between 1 and the rank, and unlike the rank it does not jump
when a direction becomes merely small: https://arxiv.org/abs/1501.01571, section 2.1.15.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """Return the stable rank of one product; as `stable_ranks`."""
    return stable_ranks([(left_gram, right_gram)])[0]


def stable_ranks(
    grams: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> list[float | None]:
    """Return the stable ranks of products by the Gram matrices [r, r] of their two factors.

    All are of one rank r, and looked at together: what is found of one does not depend on the
    others. None for a product that is zero or not finite. The eigenvalues of
    leftᵀleft·right·rightᵀ are the squared singular values of the product; the largest comes from
    power iteration, whose Rayleigh quotient never exceeds it, so that the result errs to the high
    side (by less than a percent unless the first two nearly tie).
    """
    if not grams:
        return []
    first, is_first = _normal(np.stack([left for left, _ in grams]))
    second, is_second = _normal(np.stack([right for _, right in grams]))
    total = np.sum(first * second, axis=(1, 2))
    largest = _largest(first, second)
    known = is_first & is_second & (total > 0) & (largest > 0)
    ranks = np.maximum(1.0, np.divide(total, largest, out=np.ones_like(total), where=known))
    return [
        rank if is_known else None
        for rank, is_known in zip(ranks.tolist(), known.tolist(), strict=True)
    ]


def _normal(grams: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return Gram matrices [count, r, r] of trace 1, and which of them have a trace to speak of.

    Their size does not matter here, and could overflow; the others come back as zeros.
    """
    traces = np.trace(grams, axis1=1, axis2=2)
    known = np.isfinite(traces) & (traces > _TINY)
    grams[~known] = 0.0
    return grams / np.where(known, traces, 1.0)[:, None, None], known


def _largest(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest eigenvalue of each product of two, 0 where there is none."""
    count, rank, _ = first.shape
    is_small = rank <= _SQUARED_RANK
    vectors = np.tile(_start(rank), (count, 1))[:, :, None]
    if is_small:
        vectors = _begun(first, second, vectors)
    largest = np.zeros(count)
    going = np.ones(count, np.bool_)
    for _ in range(_LAST_ROUNDS if is_small else _ROUNDS):
        weighted = second @ vectors
        sizes = _dots(vectors, weighted)
        following = first @ weighted
        going &= sizes > 0
        found = np.divide(_dots(weighted, following), sizes, out=largest.copy(), where=going)
        is_close = np.abs(found - largest) <= _CLOSE * found
        largest = found
        going &= ~is_close
        if not going.any():
            break
        vectors = following / np.maximum(np.sqrt(_dots(following, following)), _TINY)[:, None, None]
    return largest


def _begun(
    first: NDArray[np.float64], second: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return vectors that 64 rounds have gone over: squaring the products is those rounds."""
    powers = first @ second
    begun = np.ones(len(powers), np.bool_)
    for _ in range(_SQUARINGS):
        traces = np.trace(powers, axis1=1, axis2=2)
        begun &= traces > _TINY
        powers = powers / np.where(begun, traces, 1.0)[:, None, None]
        powers = powers @ powers
    found = powers @ vectors
    sizes = np.sqrt(_dots(found, found))
    begun &= sizes > _TINY
    return np.where(
        begun[:, None, None], found / np.where(begun, sizes, 1.0)[:, None, None], vectors
    )


def _dots(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of columns [count, r, 1]."""
    products: NDArray[np.float64] = np.einsum("kij,kij->k", one, other)
    return products


@lru_cache(64)
def _start(rank: int) -> NDArray[np.float64]:
    """Return a vector that lies in no plane anybody builds, and the same each time."""
    vector: NDArray[np.float64] = np.modf(np.sin(np.arange(1.0, rank + 1)) * 43758.5453)[0]
    vector.setflags(write=False)
    return vector
