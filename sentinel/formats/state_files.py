"""The files beside weights and optimizer that a resume loads: scheduler, loss scale, random states.

They are read whole, so that a torn or hostile one is known; only a few of them tell something.
Sources: torch/optim/lr_scheduler.py and torch/amp/grad_scaler.py of
https://github.com/pytorch/pytorch, src/accelerate/checkpointing.py of
https://github.com/huggingface/accelerate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from sentinel.formats import training_arguments
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.containers.on_demand import (
    PICKLE_SUFFIX,
    TORCH_SUFFIXES,
    read_pickle_file,
    read_torch_file,
)
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.files import open_regular
from sentinel.formats.scalars import as_count, as_finite, as_number
from sentinel.formats.settings import Setting

Read = Callable[[Path], object]
"""Reads a file to its end as far as its kind tells one; raises InputError."""

_SCHEDULERS = ("scheduler.pt", "scheduler.bin")
_SCALER = "scaler.pt"
_RANDOM_STATES = re.compile(r"(rng_state|random_states)_\d+\.(pth|pkl)")
_GUARD_BYTES = 64


def reader_of(name: str) -> Read | None:
    """Return how a file of the state is read, None for one of no known kind."""
    path = PurePosixPath(name)
    return _READERS.get(path.name) or _READERS.get(path.suffix)


def settings_of_state(state: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the state's files tell, by dotted name; ``state`` holds what each was read to."""
    found = training_arguments.settings_of_arguments(state.get(training_arguments.NAME))
    found |= dict(_scheduler_settings(_scheduler(state)))
    found |= dict(_scaler_settings(state.get(_SCALER)))
    return found


def is_resumed_from(name: str) -> bool:
    """Tell whether a resume reads this file: the Trainer's arguments are written for people."""
    return PurePosixPath(name).name != training_arguments.NAME


def updates_of_state(state: Mapping[str, object], step: int | None) -> int | None:
    """Return a lower bound of the updates that the scheduler's count proves, None without one.

    A scheduler counts the steps that the optimizer made: those that loss scaling skips are left
    out by Transformers and by accelerate, which counts each once a process. The first step may
    have had a rate of zero (a warm-up); a base rate of zero says nothing, since some optimizers
    choose their own.
    """
    scheduler = _scheduler(state)
    count, rates = as_count(scheduler.get("last_epoch")), _numbers(scheduler.get("base_lrs"))
    if count is None or not rates or min(rates) <= 0:
        return None
    processes = sum(1 for name in state if _RANDOM_STATES.fullmatch(name))
    updates = count // max(processes, 1)
    return max(0, (updates if step is None else min(updates, step)) - 1) or None


def _scheduler(state: Mapping[str, object]) -> Mapping[object, object]:
    found = next((state[name] for name in _SCHEDULERS if name in state), None)
    return found if isinstance(found, dict) else {}


def _scheduler_settings(scheduler: Mapping[object, object]) -> Iterator[tuple[str, Setting]]:
    """Yield the count and the rates, of which the largest stands for all groups."""
    steps = as_count(scheduler.get("last_epoch"))
    if steps is not None:
        yield "scheduler.steps", steps
    for key, name in (("_last_lr", "scheduler.last_lr"), ("base_lrs", "scheduler.base_lr")):
        rates = _numbers(scheduler.get(key))
        if rates:
            yield name, max(rates)


def _scaler_settings(scaler: object) -> Iterator[tuple[str, Setting]]:
    """Yield the loss scale, NaN and 0 included: with either no step will ever be made."""
    if not isinstance(scaler, dict):
        return
    scale, growth = as_number(scaler.get("scale")), as_count(scaler.get("_growth_tracker"))
    if scale is not None:
        yield "precision.scaler_scale", scale
    if growth is not None:
        yield "precision.scaler_growth_tracker", growth


def _numbers(values: object) -> list[float]:
    """Return a list's finite numbers, nothing when one of them is something else."""
    items = values if isinstance(values, list | tuple) else []
    numbers = [number for number in map(as_finite, items) if number is not None]
    return numbers if len(numbers) == len(items) else []


def _torch_tree(path: Path) -> object:
    return read_torch_file(path).tree


def _pickle_tree(path: Path) -> object:
    return read_pickle_file(path).tree


def _guard(path: Path) -> object:
    with open_regular(path) as (file, _size_bytes):
        return file.read(_GUARD_BYTES)


_READERS: Mapping[str, Read] = MappingProxyType(
    {
        ".guard": _guard,
        ".json": read_json_object,
        ".safetensors": read_safetensors_header,
        PICKLE_SUFFIX: _pickle_tree,
        **dict.fromkeys(TORCH_SUFFIXES, _torch_tree),
    }
)
"""By name, else by suffix."""
