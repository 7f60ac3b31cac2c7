"""Measuring many checkpoints, and large ones in portions, on a cluster: the same numbers.

What comes back is what `sentinel.inspecting.measure_again` gives on one machine. A portion whose
files changed, or that a node cannot read, is no number: the checkpoint is then measured whole, by
one task, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from sentinel.checkpoint import Checkpoint, Member, identity
from sentinel.errors import ChangedWhileReadError, InputError
from sentinel.formats.files import stat_member
from sentinel.inspecting import Inspected, measure_again
from sentinel.stats.portions import (
    PORTION_BYTES,
    Known,
    Portion,
    joined,
    measure_portion,
    portions_of,
)
from sentinel.stats.quick import Depth
from sentinel.stats.reading import current_identity
from sentinel.stats.remembered import Numbers

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Who runs a function on many items, elsewhere."""

    def map(self, fn: Callable[[Item], Result], items: Sequence[Item], /) -> Iterator[Result]:
        """Yield ``fn(item)`` for each item in order."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A way of reading for `sentinel.scanning.scan`: on ``engine``.

    ``keep`` is called on the node that measured a checkpoint, perhaps more than once.
    """

    engine: Engine
    keep: Callable[[Inspected], object] | None = None
    portion_bytes: int = PORTION_BYTES

    def read(
        self,
        opened: Sequence[Checkpoint],
        *,
        digest: bool,
        depth: Depth,
        tick: Callable[[int], None],
    ) -> list[Inspected]:
        """Return every checkpoint measured, in order; ``tick`` hears of the bytes read."""
        # A node may work in another directory than this process.
        placed = [replace(one, path=one.path.absolute()) for one in opened]
        work = [
            (at, portion)
            for at, checkpoint in enumerate(placed)
            for portion in self._portions(checkpoint, depth)
        ]
        measured = self.engine.map(
            partial(_portion, digest=digest, depth=depth),
            [(placed[at], portion) for at, portion in work],
        )
        parts: dict[int, list[dict[str, Numbers] | None]] = {}
        for (at, portion), numbers in zip(work, measured, strict=True):
            parts.setdefault(at, []).append(numbers)
            if portion.kind != "trace":
                tick(portion.size_bytes or sum(t.size_bytes for t in portion.tensors))
        whole = [(one, _known(parts.get(at, []))) for at, one in enumerate(placed)]
        finish = partial(_finish, digest=digest, depth=depth, keep=self.keep)
        found = []
        for at, inspected in enumerate(self.engine.map(finish, whole)):
            if at not in parts:
                tick(sum(tensor.size_bytes for tensor in opened[at].tensors))
            checkpoint = replace(inspected.checkpoint, path=opened[at].path)
            found.append(replace(inspected, checkpoint=checkpoint))
        return found

    def _portions(self, checkpoint: Checkpoint, depth: Depth) -> list[Portion]:
        """Return the portions of a large checkpoint, none of one that a single task reads."""
        parts = {member.path: member.part for member in checkpoint.members}
        weights = [tensor for tensor in checkpoint.tensors if parts.get(tensor.member) == "weights"]
        if depth == "headers" or sum(t.size_bytes for t in weights) <= self.portion_bytes:
            return []
        return list(portions_of(weights, depth, self.portion_bytes))


def _portion(
    work: tuple[Checkpoint, Portion], *, digest: bool, depth: Depth
) -> dict[str, Numbers] | None:
    """Measure on a node; None when the files there are not those that were opened."""
    checkpoint, portion = _here(work[0]), work[1]
    before = identity(checkpoint.members)
    try:
        if current_identity(checkpoint) != before:
            return None
        numbers = measure_portion(checkpoint, portion, digest=digest, depth=depth)
        return numbers if current_identity(checkpoint) == before else None
    except (InputError, ChangedWhileReadError):
        return None


def _known(parts: Sequence[dict[str, Numbers] | None]) -> Known | None:
    whole = [part for part in parts if part is not None]
    return joined(whole) if parts and len(whole) == len(parts) else None


def _finish(
    work: tuple[Checkpoint, Known | None],
    *,
    digest: bool,
    depth: Depth,
    keep: Callable[[Inspected], object] | None,
) -> Inspected:
    """Measure on a node what is left: everything, or what takes several tensors together."""
    opened, known = work
    here = _here(opened)
    found = measure_again(here, digest=digest, tick=None, depth=depth, remembered=known)
    if found.checkpoint.members == here.members:
        # Whoever reads again compares with what was opened, on another machine.
        found = replace(found, checkpoint=replace(found.checkpoint, members=opened.members))
    if keep is not None:
        keep(found)
    return found


def _here(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose files have the identity they have on this machine.

    One file has another device, and may have another inode, on each machine that mounts it.
    """
    return replace(
        checkpoint, members=tuple(map(partial(_known_here, checkpoint), checkpoint.members))
    )


def _known_here(checkpoint: Checkpoint, member: Member) -> Member:
    try:
        mine = stat_member(checkpoint.root, member.path, member.part)
    except InputError:
        return member
    is_same = (mine.size_bytes, mine.mtime_ns) == (member.size_bytes, member.mtime_ns)
    return mine if is_same else member
