"""What a checkpoint is in a few lines: who made it, how, from what, and what lies in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.reports.words import path_words
from sentinel.sizes import size_words

if TYPE_CHECKING:
    from sentinel.checkpoint import Base, Checkpoint, Tensor
    from sentinel.stats.optimizer import OptimizerGlance

LONGEST = 60
"""Characters of a setting's text that a group of settings shows."""

_VERSIONS = "versions."
_COMPLETE = MappingProxyType(
    {
        True: "yes",
        False: "no: its layout's completion mark is missing",
        None: "its layout tells not",
    }
)
_NAMES = frozenset({"method", "name"})
"""Settings that name the thing itself: they come first, and need no word before them."""

_SHARED_ROLES = frozenset({"alpha", "magnitude"})
_RATES = ("lr", "d", "eps", "weight_decay")


def checkpoint_facts(
    checkpoint: Checkpoint, base_dir: Path, base: Base | None, optimizer: OptimizerGlance | None
) -> Iterator[tuple[str, str]]:
    """Yield what is known by name, the most telling first; paths relative to ``base_dir``."""
    settings = checkpoint.settings
    yield "checkpoint", path_words(checkpoint.path, base_dir)
    yield "layout", checkpoint.layout
    yield "trainer", checkpoint.trainer or "unknown"
    versions = {
        name.removeprefix(_VERSIONS): value
        for name, value in settings.items()
        if name.startswith(_VERSIONS)
    }
    if versions:
        yield "written with", ", ".join(f"{name} {said}" for name, said in versions.items())
    yield "step", number_words(checkpoint.step)
    yield "epoch", number_words(checkpoint.epoch)
    yield "updates done", number_words(checkpoint.updates_done)
    yield "complete", _COMPLETE[checkpoint.complete]
    files = len(checkpoint.members)
    size = size_words(checkpoint.size_bytes)
    yield "size", f"{size} in {counted(files, 'file')}"
    yield from _contents(checkpoint)
    yield from _base(checkpoint, base, base_dir)
    yield from _optimizer(checkpoint, optimizer)
    yield from _state(checkpoint)
    if "keys.wrappers" in settings:
        yield "names wrapped", f"with {settings['keys.wrappers']}"


def setting_groups(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the settings of each kind in one line; a switch that is off is left out."""
    groups: dict[str, list[str]] = {}
    for name, value in sorted(settings.items()):
        kind, _dot, rest = name.partition(".")
        # What the facts above have said already.
        if f"{kind}." == _VERSIONS or name == "keys.wrappers" or value is False:
            continue
        group = groups.setdefault(kind, [])
        if rest in _NAMES:
            group.insert(0, _value_words(value))
        else:
            group.append(rest if value is True else f"{rest} {_value_words(value)}")
    for kind, group in groups.items():
        yield kind, ", ".join(group)


def families_of(tensors: Iterable[Tensor]) -> Iterator[str]:
    """Yield the family of each tensor that has one of its own: alpha and magnitude go with any."""
    for tensor in tensors:
        if tensor.family and tensor.role not in _SHARED_ROLES:
            yield tensor.family


def number_words(value: float | None) -> str:
    """Return a number for people, "unknown" for None."""
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _contents(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    tensors = checkpoint.tensors
    numel = sum(tensor.numel for tensor in tensors)
    yield "parameters", f"{numel:,} in {counted(len(tensors), 'tensor')}"
    named = {
        "dtypes": (tensor.dtype for tensor in tensors),
        "roles": (tensor.role for tensor in tensors),
        "families": families_of(tensors),
    }
    for name, values in named.items():
        words = _count_words(values)
        if words:
            yield name, words


def _base(checkpoint: Checkpoint, base: Base | None, base_dir: Path) -> Iterator[tuple[str, str]]:
    if base is not None:
        packed = "not quantised" if base.scheme == "none" else base.scheme
        computes = f", computes in {base.compute_dtype}" if base.compute_dtype else ""
        weights = counted(len(base.weights), "weight")
        yield "base", f"{path_words(base.path, base_dir)}: {packed}{computes}, {weights}"
        return
    named = checkpoint.settings.get("base.path")
    if named is None:
        return
    scheme = checkpoint.settings.get("base.quantization")
    said = f"; its quantization was {scheme}" if scheme is not None else ""
    yield "base", f"{named} (not on this machine{said})"


def _optimizer(checkpoint: Checkpoint, glance: OptimizerGlance | None) -> Iterator[tuple[str, str]]:
    state = checkpoint.optimizer
    if state is None:
        if any(member.part == "optimizer" for member in checkpoint.members):
            yield "optimizer", "saved, but of no form that is understood"
        return
    size = counted(len(state.parameters), "parameter")
    words = [f"state of {size} in {counted(len(state.groups), 'group')}"]
    if glance is not None and glance.steps is not None:
        words.append(_range_words(glance.steps, "step"))
    for name in _RATES:
        values = [row[name] for row in glance.groups] if glance is not None else []
        known = [value for value in values if isinstance(value, float)]
        if known:
            words.append(_range_words((min(known), max(known)), name))
    if state.opaque_count:
        words.append(f"{counted(state.opaque_count, 'value')} of no known kind")
    yield "optimizer", ", ".join(words)


def _range_words(bounds: tuple[float, float], name: str) -> str:
    low, high = (f"{bound:g}" for bound in bounds)
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def _state(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    names = [member.path for member in checkpoint.members if member.part == "state"]
    if not names:
        return
    broken = {fault.member for fault in checkpoint.faults if fault.part == "state"}
    listed = ", ".join(f"{name}{' (broken)' if name in broken else ''}" for name in names)
    yield "state", listed


def _value_words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    said = str(value)
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def counted(count: int, noun: str) -> str:
    """Return a number of things: "1 file", "1,204 files"."""
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def _count_words(names: Iterable[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())
