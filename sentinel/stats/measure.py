"""From a checkpoint's headers to its numbers: every weight read once, then pairs."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from sentinel.checkpoint import identity, path_text
from sentinel.engines.local import share_threads
from sentinel.errors import ChangedWhileReadError
from sentinel.stats.batches import in_batches, numbers_of
from sentinel.stats.effect import effect_rows
from sentinel.stats.moments import Moments, Scratch, block_bytes, merge, moments_of, unmeasured
from sentinel.stats.pairs import find_pairs, pair_row
from sentinel.stats.products import UNKNOWN, Products
from sentinel.stats.quick import Depth, Skipped, decides, skipped_of
from sentinel.stats.reading import MemberFiles, current_identity
from sentinel.stats.remembered import Numbers, Remembering
from sentinel.stats.samples import Sampler
from sentinel.stats.screen import screen_of
from sentinel.stats.table import EFFECTS, PAIRS, TENSORS, table_of, tensor_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from sentinel.checkpoint import Checkpoint, Tensor

TICK_BYTES = 16 * 1024 * 1024
"""Bytes between two ticks inside a large tensor."""

SHARED_BYTES = 256 * 1024
"""Threads share batches that are as large as this on average. With smaller ones most of the time
is Python's, which runs one thread at a time: a LoRA of 98 MB whose tensors of 131 kB were read one
by one took 0.78 s with two threads and 0.66 s with one."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A checkpoint's numbers: one row a tensor, a pair of up and down, an adapted module.

    ``optimizer`` (one row a parameter) and ``optimizer_groups`` are None when no optimizer state
    was understood. ``skipped`` is what less than a whole look left out.
    """

    tensors: pa.Table
    pairs: pa.Table
    effects: pa.Table
    optimizer: pa.Table | None = None
    optimizer_groups: pa.Table | None = None
    skipped: Skipped | None = None


def measure(
    checkpoint: Checkpoint,
    *,
    digest: bool,
    tick: Callable[[int], None] | None = None,
    jobs: int = 1,
    remembered: Remembering | None = None,
    depth: Depth = "whole",
) -> Measured:
    """Read every tensor of the part ``weights`` and of the optimizer; return their statistics.

    ``digest`` adds the xxh3-128 of each tensor's bytes, in hexadecimal. ``tick`` is told the
    number of bytes read since it was told last, by up to ``jobs`` threads that share the tensors;
    each holds one block in memory. What ``remembered`` holds of the same bytes is not read again.
    ``depth`` says how much is read, see `sentinel.stats.quick`; less than all gives no digest.
    Raises ChangedWhileReadError when the members are not the same
    before, while and after reading: numbers of two versions are nobody's.
    """
    before = identity(checkpoint.members)
    _refuse_change(checkpoint, before)
    parts = {member.path: member.part for member in checkpoint.members}
    weights = [tensor for tensor in checkpoint.tensors if parts.get(tensor.member) == "weights"]
    batches = list(in_batches(weights, block_bytes()))
    if sum(tensor.size_bytes for tensor in weights) < SHARED_BYTES * len(batches):
        jobs = 1
    with MemberFiles(checkpoint) as files:
        found_pairs = find_pairs(weights)
        products = Products(found_pairs)
        reader = TensorReader(
            files,
            digest=digest,
            tick=tick or _no_tick,
            depth=depth,
            products=products,
            batches=batches,
        )
        read = reader.read if remembered is None else remembered.of(checkpoint, reader.read)
        found = chain.from_iterable(share_threads(partial(_each, read), batches, jobs))
        numbers = {tensor.name: one for tensor, one in zip(weights, found, strict=True)}
        moments = {name: found for name, (found, _digest, _sample) in numbers.items()}
        sizes = (
            products.sizes(moments, files.open, jobs=jobs)
            if depth == "whole"
            else [UNKNOWN] * len(found_pairs)
        )
        pairs = [
            pair_row(pair, moments, checkpoint.adapter, size)
            for pair, size in zip(found_pairs, sizes, strict=True)
        ]
        state, groups = _optimizer_tables(checkpoint, files, tick or _no_tick, depth)
        norms = {str(row["module"]): row["norm"] for row in pairs if row["norm"] is not None}
        effects = effect_rows(
            weights,
            moments,
            checkpoint.adapter,
            files.open,
            pair_norms=norms,
            quick=depth != "whole",
        )
    _refuse_change(checkpoint, before)
    rows = [tensor_row(tensor, parts[tensor.member], *numbers[tensor.name]) for tensor in weights]
    return Measured(
        table_of(rows, TENSORS),
        table_of(pairs, PAIRS),
        table_of(effects, EFFECTS),
        state,
        groups,
        skipped_of(checkpoint, weights, depth),
    )


def _optimizer_tables(
    checkpoint: Checkpoint, files: MemberFiles, tick: Callable[[int], None], depth: Depth
) -> tuple[pa.Table | None, pa.Table | None]:
    """Return the tables of the optimizer's parameters and of their groups."""
    if checkpoint.optimizer is None or depth == "headers":
        return None, None
    # Imported where there is one: most adapters lie alone.
    from sentinel.stats.optimizer import (  # noqa: PLC0415
        GROUPS,
        glance_at_optimizer,
        measure_optimizer,
    )

    if depth == "quick":
        glance = glance_at_optimizer(checkpoint.optimizer, files)
        return None, table_of(glance.groups, GROUPS)
    found = measure_optimizer(checkpoint.optimizer, files, tick)
    return found.parameters, found.groups


def _each(read: Callable[[Tensor], Numbers], batch: Sequence[Tensor]) -> list[Numbers]:
    return [read(tensor) for tensor in batch]


@dataclass(slots=True)
class _Room:
    """One thread's temporaries and buffer, and what it knows of the batch it is in."""

    scratch: Scratch = field(default_factory=Scratch)
    buffer: NDArray[np.uint8] = field(default_factory=lambda: np.empty(block_bytes(), np.uint8))
    ready: dict[int, Numbers] = field(default_factory=dict)


class TensorReader:
    """One pass over one tensor after another, with one set of buffers a thread."""

    def __init__(
        self,
        files: MemberFiles,
        *,
        digest: bool,
        tick: Callable[[int], None],
        depth: Depth,
        products: Products | None = None,
        batches: Iterable[Sequence[Tensor]] = (),
    ) -> None:
        """Read from ``files``; ``products`` is told of each block of a whole reading.

        The first tensor of one of ``batches`` that is asked for has the others read with it.
        """
        self._files = files
        self._products = products if depth == "whole" else None
        self._digest = digest and depth == "whole"
        self._tick = tick
        self._depth = depth
        self._rooms = threading.local()
        self._batches = {
            id(tensor): batch for batch in batches if len(batch) > 1 for tensor in batch
        }

    def read(self, tensor: Tensor) -> Numbers:
        """Return the moments of a tensor, its digest where asked for, and its sample."""
        if self._depth == "headers" or not tensor.is_dense:
            return unmeasured(tensor.numel), None, None
        if self._products and (batch := self._batches.get(id(tensor))):
            ready = self._room().ready
            if id(tensor) not in ready:
                ready.clear()
                ready.update(self._read_together(batch, self._products))
            if id(tensor) in ready:
                return ready.pop(id(tensor))
        return self._read_alone(tensor)

    def _read_together(
        self, batch: Sequence[Tensor], products: Products
    ) -> Iterator[tuple[int, Numbers]]:
        first, size_bytes = batch[0], sum(tensor.size_bytes for tensor in batch)
        data = self._room().buffer[:size_bytes]
        self._files.open(first.member).read_into(first.offset, data)
        self._tick(size_bytes)
        found = numbers_of(batch, data, products, digest=self._digest)
        return zip(map(id, batch), found or (), strict=False)

    def _read_alone(self, tensor: Tensor) -> Numbers:
        hasher = xxhash.xxh3_128() if self._digest else None
        whole = self._depth == "whole" or decides(tensor)
        count = moments_of if whole else screen_of
        sampler = Sampler(tensor) if self._depth == "whole" else None
        room = self._room()
        total, unticked = Moments(), 0
        for block in self._files.blocks(tensor, room.buffer):
            total = merge(total, count(tensor.dtype, block, room.scratch))
            if sampler:
                sampler.take(block)
            if hasher:
                hasher.update(block.data)
            if self._products:
                self._products.take(tensor, block)
            unticked += block.size
            if unticked >= TICK_BYTES:
                self._tick(unticked)
                unticked = 0
        self._tick(unticked)
        return total, hasher.hexdigest() if hasher else None, sampler.bytes() if sampler else None

    def _room(self) -> _Room:
        """Return the temporaries and the buffer of the calling thread."""
        if not hasattr(self._rooms, "own"):
            self._rooms.own = _Room()
        room: _Room = self._rooms.own
        return room


def _no_tick(_size_bytes: int) -> None:
    return


def _refuse_change(checkpoint: Checkpoint, before: object) -> None:
    if current_identity(checkpoint) != before:
        raise ChangedWhileReadError(
            f"checkpoint '{path_text(checkpoint.path)}'",
            fact="its files changed while they were read",
            todo="scan it again when its writer is done",
        )
