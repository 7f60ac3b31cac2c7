"""Where each parameter lies in the flat partitions of ZeRO.

Stages 1 and 2 lay a group's parameters one after another and cut the row between the processes;
stage 3 cuts every parameter, and each process lays its parts one after another. Source:
`_zero2_merge_trainable_params` and `_zero3_merge_trainable_params` in
deepspeed/utils/zero_to_fp32.py of https://github.com/deepspeedai/DeepSpeed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sentinel.checkpoint import Tensor
from sentinel.formats.containers.strides import check_extents
from sentinel.formats.flat_shards import Flat, Run, tensor_of

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class FlatLayout:
    """The parameters of each group in the order in which they lie; ``paddings`` follow each."""

    is_stage_3: bool
    groups: tuple[Shapes, ...]
    paddings: tuple[tuple[int, ...], ...] = ()

    def tensors(self, partitions: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Return the parameters that partitions (by process, then by group) hold together.

        Raises ValueError when they do not fit the shapes.
        """
        if self.is_stage_3:
            return self._cut_each(partitions)
        return self._cut_rows(partitions)

    def _cut_rows(self, partitions: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for at, shapes in enumerate(self.groups):
            row = Flat([own[at] for own in partitions if at < len(own)])
            paddings = self.paddings[at] if at < len(self.paddings) else ()
            start = 0
            for (name, shape), padding in zip_longest(shapes.items(), paddings[: len(shapes)]):
                count = math.prod(shape)
                found[name] = tensor_of(name, row.dtype, shape, list(row.runs(start, count)))
                start += count + (padding or 0)
        return found

    def _cut_each(self, partitions: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        rows = [Flat(own) for own in partitions]
        found: dict[str, Tensor] = {}
        start = 0
        for shapes in self.groups:
            for name, shape in shapes.items():
                count = math.prod(shape)
                part = math.ceil(count / max(1, len(rows)))
                runs: list[Run] = []
                for rank, row in enumerate(rows):
                    left = max(0, min(part, count - rank * part))
                    runs += row.runs(start, left)
                found[name] = tensor_of(name, rows[0].dtype if rows else "", shape, runs)
                start += part
        return found


def shapes_of(value: object) -> tuple[Shapes, ...] | None:
    """Return the shapes by group out of a model's file; None when they are none."""
    groups = [value] if isinstance(value, dict) else value
    if not isinstance(groups, list):
        return None
    found: list[Shapes] = []
    for group in groups:
        if not isinstance(group, dict):
            return None
        shapes = {
            name: tuple(shape)
            for name, shape in group.items()
            if isinstance(name, str)
            and isinstance(shape, tuple | list)
            and check_extents(shape, shape, 0) is not None
        }
        if len(shapes) != len(group):
            return None
        found.append(shapes)
    return tuple(found)


def paddings_of(value: object) -> tuple[tuple[int, ...], ...]:
    """Return how many elements are left free after each parameter; none for what is no count."""
    groups = value if isinstance(value, list) else []
    return tuple(
        tuple(one for one in group if type(one) is int and one >= 0)
        for group in groups
        if isinstance(group, list)
    )
