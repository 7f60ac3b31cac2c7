"""Norms and stable ranks of the products of many pairs, their Gram matrices taken early.

A matrix that was read in one block has its Gram matrix taken while the block is at hand; others
are read a second time, piece by piece.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

from sentinel.engines.local import map_threads
from sentinel.stats.gram import frobenius_norm, gram_of, grams, is_diagonal, multiplicable
from sentinel.stats.stable_rank import stable_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.gram import Grams
    from sentinel.stats.moments import Moments
    from sentinel.stats.pairs import Pair
    from sentinel.stats.reading import MemberFile

Size: TypeAlias = tuple[float | None, float | None]
"""The Frobenius norm of a product, before any scale, and its stable rank; None is unknown."""

UNKNOWN: Size = (None, None)

KEPT_BYTES = 16 * 1024 * 1024
"""Gram matrices in memory at a time: all of an adapter of rank 16, and those of 500 matrices of
rank 64. What does not fit is read a second time."""


class Products:
    """The pairs of a checkpoint that can be multiplied; told of blocks, asked for sizes."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._pairs = tuple(pairs)
        self._sides: dict[str, tuple[Tensor, bool]] = {}
        self._products = frozenset(pair.module for pair in self._pairs if _is_product(pair))
        for pair in self._pairs:
            if pair.module in self._products:
                self._sides |= {pair.up.name: (pair.up, True), pair.down.name: (pair.down, False)}
        self._known: dict[str, NDArray[np.float64]] = {}
        self._kept_bytes = 0

    def take(self, tensor: Tensor, block: NDArray[np.uint8]) -> None:
        """Look at some bytes of a tensor; called from several threads."""
        if block.size == tensor.size_bytes and (asked := self.wanted(tensor)) is not None:
            rank, by_rows = asked
            self.keep(tensor, gram_of(tensor.dtype, block, rank, by_rows=by_rows))

    def wanted(self, tensor: Tensor) -> tuple[int, bool] | None:
        """Return the rank of a tensor whose Gram matrix is wanted, and whether it is a tall one.

        None where none is, or where there is no room for it.
        """
        side, by_rows = self._sides.get(tensor.name, (None, False))
        # Of two tensors of one name the other may have another shape.
        if side is not tensor or tensor.pieces or not tensor.size_bytes:
            return None
        rank = tensor.shape[1] if by_rows else tensor.shape[0]
        return None if self._kept_bytes + 8 * rank * rank > KEPT_BYTES else (rank, by_rows)

    def keep(self, tensor: Tensor, gram: NDArray[np.float64]) -> None:
        """Take the Gram matrix of a tensor, as it was `wanted`."""
        self._kept_bytes += gram.nbytes
        self._known[tensor.name] = gram

    def sizes(
        self,
        moments: Mapping[str, Moments],
        open_member: Callable[[str], MemberFile],
        *,
        jobs: int = 1,
    ) -> list[Size]:
        """Return the size of each pair's product, in the order of the pairs.

        ``moments`` are the tensors' by name: a value that is not finite leaves a size unknown.
        """
        products = (pair for pair in self._pairs if pair.module in self._products)
        wanted = [pair for pair in products if _is_known(pair, moments)]
        # Threads are worth their handing over only where matrices are read again.
        sides = {tensor.name for pair in wanted for tensor in (pair.up, pair.down)}
        jobs = jobs if sides - self._known.keys() else 1
        found = map_threads(partial(self._grams, open_member=open_member), wanted, jobs)
        by_module = dict(zip((pair.module for pair in wanted), _sized(found), strict=True))
        return [by_module.get(pair.module, UNKNOWN) for pair in self._pairs]

    def _grams(self, pair: Pair, open_member: Callable[[str], MemberFile]) -> Grams:
        known = (self._known.get(pair.up.name), self._known.get(pair.down.name))
        return grams(pair.up, pair.down, open_member, middle=pair.middle, known=known)


def _is_product(pair: Pair) -> bool:
    return not pair.has_mid and not pair.is_stacked and multiplicable(pair.up, pair.down)


def _is_known(pair: Pair, moments: Mapping[str, Moments]) -> bool:
    """Tell whether the product of a pair that can be multiplied is made of finite values."""
    parts = [tensor for tensor in (pair.up, pair.down, pair.middle) if tensor is not None]
    known = [moments[tensor.name] for tensor in parts]
    if any(one.nan_count != 0 or one.inf_count != 0 for one in known):
        return False
    return pair.middle is None or is_diagonal(pair.middle, pair.down)


def _sized(found: Iterable[Grams]) -> Iterator[Size]:
    """Yield the size of each product; neighbours of one rank are looked at together."""
    for _, group in groupby(_portions(found), key=lambda one: one[0]):
        together = [one for _, one in group]
        ranks = stable_ranks(together)
        for factors, stable in zip(together, ranks, strict=True):
            yield frobenius_norm(*factors), stable


def _portions(found: Iterable[Grams]) -> Iterator[tuple[tuple[int, int], Grams]]:
    """Yield Gram matrices with what is the same for neighbours that are held together."""
    rank = held_bytes = portion = 0
    for factors in found:
        size_bytes = factors[0].nbytes + factors[1].nbytes
        if len(factors[0]) != rank or held_bytes + size_bytes > KEPT_BYTES:
            rank, held_bytes, portion = len(factors[0]), 0, portion + 1
        held_bytes += size_bytes
        yield (rank, portion), factors
