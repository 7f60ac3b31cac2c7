"""Small tensors that lie side by side: read at once, and counted in one call of the kernel.

A LoRA has hundreds of tensors of some hundred kilobytes each, and a call from Python costs as
much as the counting of some; between calls, too, only one thread runs at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from sentinel.stats import compiled
from sentinel.stats.compiled import FLOATS, MOST_VECTORS, Run
from sentinel.stats.moments import LARGE_BYTES, moments_of, moments_of_tally
from sentinel.stats.samples import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from sentinel.checkpoint import Tensor
    from sentinel.stats.products import Products
    from sentinel.stats.remembered import Numbers

    Batch: TypeAlias = tuple[Tensor, ...]


def in_batches(tensors: Iterable[Tensor], room_bytes: int) -> Iterator[Batch]:
    """Yield the tensors in their order, neighbours in a file that fit into the room together.

    One that cannot be counted with others, and every one without the compiled kernel, is alone.
    """
    together: list[Tensor] = []
    left_bytes = 0
    is_compiled = compiled.is_available()
    for tensor in tensors:
        fits = together and _is_next(together[-1], tensor) and tensor.size_bytes <= left_bytes
        if not (fits and is_compiled and is_batched(tensor)):
            if together:
                yield tuple(together)
            together, left_bytes = [], room_bytes if is_batched(tensor) else 0
        together.append(tensor)
        left_bytes -= tensor.size_bytes
    if together:
        yield tuple(together)


def is_batched(tensor: Tensor) -> bool:
    """Tell whether a tensor is plain floats, as many as are the compiled kernel's work."""
    is_whole = not tensor.pieces and tensor.strides is None and not tensor.big_endian
    return is_whole and tensor.dtype in FLOATS and tensor.size_bytes >= LARGE_BYTES


def numbers_of(
    batch: Sequence[Tensor], data: NDArray[np.uint8], products: Products, *, digest: bool
) -> list[Numbers] | None:
    """Return the numbers of neighbours whose bytes ``data`` is; None without the kernel.

    ``products`` gets the Gram matrices that it wants.
    """
    runs, at = [], 0
    for tensor in batch:
        rank, by_rows = products.wanted(tensor) or (0, False)
        rank = rank if rank <= MOST_VECTORS else 0
        runs.append(Run(tensor.dtype, at, tensor.size_bytes, rank, by_rows))
        at += tensor.size_bytes
    found = compiled.tally_batch(data, runs)
    if found is None:
        return None
    numbers: list[Numbers] = []
    for tensor, run, (tally, gram) in zip(batch, runs, found, strict=True):
        own = data[run.offset : run.offset + run.size_bytes]
        if gram is not None:
            products.keep(tensor, gram)
        else:
            products.take(tensor, own)
        moments = moments_of_tally(tally, tensor.numel) or moments_of(tensor.dtype, own)
        sampler = Sampler(tensor)
        sampler.take(own)
        written = xxhash.xxh3_128_hexdigest(own.data) if digest else None
        numbers.append((moments, written, sampler.bytes()))
    return numbers


def _is_next(before: Tensor, tensor: Tensor) -> bool:
    end = before.offset + before.size_bytes
    return before.member == tensor.member and tensor.offset == end
