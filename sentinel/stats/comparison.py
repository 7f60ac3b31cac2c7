"""Two checkpoints side by side: what each has alone, and how what both have differs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import identity, path_text
from sentinel.dtypes import DTYPES
from sentinel.errors import ChangedWhileReadError
from sentinel.stats.difference import Difference, difference, is_comparable
from sentinel.stats.reading import MemberFiles, current_identity

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint, Tensor

_FACTS = ("layout", "trainer", "step", "epoch", "updates_done", "complete")
_PROGRESS = frozenset(
    {
        "step",
        "epoch",
        "updates_done",
        "scheduler.steps",
        "scheduler.last_lr",
        "precision.scaler_scale",
        "precision.scaler_growth_tracker",
    }
)
"""What differs from one checkpoint of a run to the next, whatever its settings."""


@dataclass(frozen=True, slots=True)
class ComparedTensor:
    """A tensor that both have; ``difference`` is None when its elements cannot be compared."""

    first: Tensor
    second: Tensor
    difference: Difference | None

    @property
    def is_identical(self) -> bool:
        """Tell whether dtype, shape and every element are the same."""
        same_kind = (self.first.dtype, self.first.shape) == (self.second.dtype, self.second.shape)
        return same_kind and self.difference is not None and self.difference.is_identical

    @property
    def is_unknown(self) -> bool:
        """Tell whether the elements might be equal, and nobody can say."""
        return self.difference is None and self.first.shape == self.second.shape


@dataclass(frozen=True, slots=True)
class ModuleDifference:
    """How a module's tensors differ, those without a module each on their own.

    ``relative`` is the norm of the change over the norm before, None where either is unknown or
    the norm before is zero. A module's alpha counts only where nothing else is left: it is a
    setting, and larger than its weights. ``epsilon`` is that of the coarsest float dtype.
    """

    module: str
    numel: int
    identical_count: int
    relative: float | None
    largest: float | None
    epsilon: float | None
    non_finite_count: int
    is_identical: bool

    @property
    def is_below_epsilon(self) -> bool:
        """Tell whether the change is there, and smaller than one step of the dtype."""
        return (
            not self.is_identical
            and self.relative is not None
            and self.epsilon is not None
            and self.relative < self.epsilon
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two checkpoints; ``settings`` holds both values by name."""

    first: Checkpoint
    second: Checkpoint
    settings: Mapping[str, tuple[object, object]]
    only_first: tuple[Tensor, ...]
    only_second: tuple[Tensor, ...]
    tensors: tuple[ComparedTensor, ...]
    modules: tuple[ModuleDifference, ...]

    @property
    def progress(self) -> Mapping[str, tuple[object, object]]:
        """Return what differs because the training went on."""
        return {name: values for name, values in self.settings.items() if name in _PROGRESS}

    @property
    def choices(self) -> Mapping[str, tuple[object, object]]:
        """Return what differs because somebody chose it, by name in order."""
        known = sorted(self.settings.items())
        return {name: values for name, values in known if name not in _PROGRESS}

    @property
    def unknown(self) -> tuple[ComparedTensor, ...]:
        """Return the tensors of which nobody can say whether they are equal."""
        return tuple(pair for pair in self.tensors if pair.is_unknown)

    @property
    def is_different(self) -> bool:
        """Tell whether anything is known to differ."""
        return bool(self.settings or self.only_first or self.only_second) or any(
            not (pair.is_identical or pair.is_unknown) for pair in self.tensors
        )


def compare(first: Checkpoint, second: Checkpoint) -> Comparison:
    """Read the weights of two checkpoints in blocks and tell what changed from first to second.

    Raises ChangedWhileReadError when either changed while it was read, and UnreadableError.
    """
    _refuse_change(first, second)
    ours, theirs = _weights(first), _weights(second)
    with MemberFiles(first) as first_files, MemberFiles(second) as second_files:
        tensors = tuple(
            _compared(tensor, theirs[name], first_files, second_files)
            for name, tensor in ours.items()
            if name in theirs
        )
    _refuse_change(first, second)
    return Comparison(
        first,
        second,
        settings=_settings(first, second),
        only_first=tuple(tensor for name, tensor in ours.items() if name not in theirs),
        only_second=tuple(tensor for name, tensor in theirs.items() if name not in ours),
        tensors=tensors,
        modules=_modules(tensors),
    )


def _compared(
    first: Tensor, second: Tensor, first_files: MemberFiles, second_files: MemberFiles
) -> ComparedTensor:
    if not is_comparable(first, second):
        return ComparedTensor(first, second, None)
    return ComparedTensor(first, second, difference(first, second, first_files, second_files))


def _weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    weights = {member.path for member in checkpoint.members if member.part == "weights"}
    return {tensor.name: tensor for tensor in checkpoint.tensors if tensor.member in weights}


def _settings(first: Checkpoint, second: Checkpoint) -> dict[str, tuple[object, object]]:
    ours, theirs = _facts(first), _facts(second)
    return {
        name: (ours.get(name), theirs.get(name))
        for name in dict.fromkeys((*ours, *theirs))
        if not _is_same(ours.get(name), theirs.get(name))
    }


def _is_same(one: object, other: object) -> bool:
    """Tell whether two values are equal; a loss scale of NaN is equal to another."""
    return one == other or (one != one and other != other)  # noqa: PLR0124 - only NaN differs from itself


def _facts(checkpoint: Checkpoint) -> dict[str, object]:
    facts: dict[str, object] = {name: getattr(checkpoint, name) for name in _FACTS}
    facts |= checkpoint.settings
    if checkpoint.adapter is not None:
        for field in dataclasses.fields(checkpoint.adapter):
            facts.setdefault(f"adapter.{field.name}", getattr(checkpoint.adapter, field.name))
    return facts


def _modules(tensors: Iterable[ComparedTensor]) -> tuple[ModuleDifference, ...]:
    groups: dict[str, list[ComparedTensor]] = {}
    for pair in tensors:
        groups.setdefault(pair.first.module or pair.first.name, []).append(pair)
    return tuple(_module(name, pairs) for name, pairs in groups.items())


def _module(name: str, pairs: list[ComparedTensor]) -> ModuleDifference:
    found = [pair.difference for pair in pairs if pair.difference is not None]
    # An alpha that did not change would only make the change of the weights look smaller.
    sized = [pair for pair in pairs if pair.first.role != "alpha"] or pairs
    dtypes = [DTYPES.get(tensor.dtype) for pair in sized for tensor in (pair.first, pair.second)]
    epsilons = [dtype.epsilon for dtype in dtypes if dtype and dtype.epsilon is not None]
    largest = [one.largest for one in found if one.largest is not None]
    return ModuleDifference(
        module=name,
        numel=sum(pair.first.numel for pair in pairs),
        identical_count=sum(one.identical_count for one in found),
        relative=_relative([pair.difference for pair in sized]),
        largest=max(largest, default=None),
        epsilon=max(epsilons, default=None),
        non_finite_count=sum(one.non_finite_count for one in found),
        is_identical=all(pair.is_identical for pair in pairs),
    )


def _relative(found: list[Difference | None]) -> float | None:
    changes, norms = [], []
    for one in found:
        if one is None or one.change_l2 is None or one.first_l2 is None:
            return None
        changes.append(one.change_l2)
        norms.append(one.first_l2)
    change, before = math.hypot(*changes), math.hypot(*norms)
    if change == 0:
        return 0.0
    return change / before if before and math.isfinite(change / before) else None


def _refuse_change(*checkpoints: Checkpoint) -> None:
    for checkpoint in checkpoints:
        if current_identity(checkpoint) != identity(checkpoint.members):
            raise ChangedWhileReadError(
                f"checkpoint '{path_text(checkpoint.path)}'",
                fact="its files changed while they were read",
                todo="compare it again when its writer is done",
            )
