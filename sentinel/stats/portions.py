"""The weights of one checkpoint divided into portions, which several machines measure.

Tensors go whole, as many together as make a portion. One that is larger is divided into blocks,
whose moments are merged; its digest and sample, which follow the order of its bytes, are a
portion of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Literal

import numpy as np
import xxhash

from sentinel.dtypes import unit_bytes
from sentinel.stats.measure import TensorReader
from sentinel.stats.moments import Moments, Scratch, block_bytes, merge, moments_of
from sentinel.stats.quick import Depth, decides
from sentinel.stats.reading import MemberFiles
from sentinel.stats.samples import Sampler
from sentinel.stats.screen import screen_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel.checkpoint import Checkpoint, Tensor
    from sentinel.stats.remembered import Numbers

PORTION_BYTES = 1 << 30
"""A task reads about so much: some seconds from a disk, some ten from a bucket."""


@dataclass(frozen=True, slots=True)
class Portion:
    """A part of the work; ``kind`` says what is done with the tensors.

    Of a ``block`` there is one tensor, and ``start`` and ``size_bytes`` say which of its bytes.
    """

    kind: Literal["whole", "block", "trace"]
    tensors: tuple[Tensor, ...]
    start: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """Numbers of tensors that others measured, in the place of `Remembered`."""

    numbers: Mapping[str, Numbers]

    def of(
        self,
        checkpoint: Checkpoint,  # noqa: ARG002 - as Remembered has it
        read: Callable[[Tensor], Numbers],
    ) -> Callable[[Tensor], Numbers]:
        """Return a reading that looks a tensor up before it reads it."""
        return lambda tensor: self.numbers.get(tensor.name) or read(tensor)


def portions_of(
    weights: Iterable[Tensor], depth: Depth, most_bytes: int = PORTION_BYTES
) -> Iterator[Portion]:
    """Yield portions that hold each tensor once, of about ``most_bytes`` each."""
    together: list[Tensor] = []
    size = 0
    for tensor in weights:
        if tensor.size_bytes > most_bytes and tensor.is_dense and not tensor.pieces:
            yield from _blocks(tensor, depth, most_bytes)
            continue
        if together and size + tensor.size_bytes > most_bytes:
            yield Portion("whole", tuple(together))
            together, size = [], 0
        together.append(tensor)
        size += tensor.size_bytes
    if together:
        yield Portion("whole", tuple(together))


def _blocks(tensor: Tensor, depth: Depth, most_bytes: int) -> Iterator[Portion]:
    step = most_bytes - most_bytes % unit_bytes(tensor.dtype)
    for start in range(0, tensor.size_bytes, step):
        yield Portion("block", (tensor,), start, min(step, tensor.size_bytes - start))
    if depth == "whole":
        yield Portion("trace", (tensor,))


def measure_portion(
    checkpoint: Checkpoint, portion: Portion, *, digest: bool, depth: Depth
) -> dict[str, Numbers]:
    """Return what is known of each tensor from this portion alone; raises as reading does."""
    with MemberFiles(checkpoint) as files:
        if portion.kind == "whole":
            reader = TensorReader(files, digest=digest, tick=lambda _bytes: None, depth=depth)
            return {tensor.name: reader.read(tensor) for tensor in portion.tensors}
        (tensor,) = portion.tensors
        buffer = np.empty(block_bytes(), np.uint8)
        if portion.kind == "block":
            part = replace(tensor, offset=tensor.offset + portion.start, strides=None)
            part = replace(part, size_bytes=portion.size_bytes)
            count = moments_of if depth == "whole" or decides(tensor) else screen_of
            scratch = Scratch()
            found = (count(tensor.dtype, one, scratch) for one in files.blocks(part, buffer))
            return {tensor.name: (reduce(merge, found, Moments()), None, None)}
        hasher, sampler = xxhash.xxh3_128(), Sampler(tensor)
        for block in files.blocks(tensor, buffer):
            sampler.take(block)
            if digest:
                hasher.update(block.data)
        return {tensor.name: (Moments(), hasher.hexdigest() if digest else None, sampler.bytes())}


def joined(parts: Iterable[Mapping[str, Numbers]]) -> Known:
    """Return the numbers of the tensors whose portions these are, all of them, in any order."""
    numbers: dict[str, Numbers] = {}
    for part in parts:
        for name, (moments, digest, sample) in part.items():
            before = numbers.get(name, (Moments(), None, None))
            numbers[name] = (
                merge(before[0], moments),
                before[1] or digest,
                before[2] or sample,
            )
    return Known(numbers)
