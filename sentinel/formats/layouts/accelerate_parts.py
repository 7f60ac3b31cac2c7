"""The file names that accelerate's `save_state` gives to a checkpoint's parts, and their reading.

Source: src/accelerate/checkpointing.py and utils/constants.py of
https://github.com/huggingface/accelerate. `random_states_<rank>.pkl` comes last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sentinel.checkpoint import Part
from sentinel.errors import InputError
from sentinel.formats.files import stat_member
from sentinel.formats.lora_metadata import LYCORIS_CONFIG
from sentinel.formats.nested import has_nested_weights, read_nested
from sentinel.formats.shards import has_weights, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member
    from sentinel.formats.draft import Draft
    from sentinel.formats.layouts.components import Component

MARK = "random_states_0.pkl"
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
OPTIMIZER = "optimizer.bin"
PICKLED_MODEL = "pytorch_model.bin"

_PARTS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    (
        "weights",
        (
            LORA_WEIGHTS,
            LYCORIS_CONFIG,
            "model.safetensors",
            "model-*-of-*.safetensors",
            "model.safetensors.index.json",
            PICKLED_MODEL,
        ),
    ),
    ("optimizer", ("optimizer*.bin",)),
    (
        "state",
        (
            "model_*.safetensors",
            "scheduler*.bin",
            "sampler*.bin",
            "dl_state_dict*.bin",
            "scaler.pt",
            "random_states_*.pkl",
            "custom_checkpoint_*.pkl",
            "train_state.json",
            "training_state*.json",
            "checkpoint_manifest.json",
            ".guard",
        ),
    ),
)


def part_of(name: str) -> Part | None:
    """Return the part a file belongs to, None when a resume does not need it."""
    for part, patterns in _PARTS:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return part
    return None


def holds_weights(files: Collection[str]) -> bool:
    """Tell whether weights lie in the directory itself."""
    return LORA_WEIGHTS in files or PICKLED_MODEL in files or has_weights(files)


def stat_parts(path: Path, names: Collection[str]) -> tuple[Member, ...]:
    """Return the members among some names; what cannot be looked at is left out."""
    return _stat(path, ((name, part_of(name)) for name in sorted(names)))


def stat_components(path: Path, models: Sequence[Component]) -> tuple[Member, ...]:
    """Return the members of models in folders of their own: the first one's are the weights."""
    rest: Part = "state"
    found: list[tuple[str, Part]] = [
        (name, rest if at else "weights")
        for at, model in enumerate(models)
        for name in sorted(model.paths)
    ]
    return _stat(path, found)


def _stat(path: Path, named: Iterable[tuple[str, Part | None]]) -> tuple[Member, ...]:
    found = []
    for name, part in named:
        try:
            if part is not None:
                found.append(stat_member(path, name, part))
        except InputError:
            continue
    return tuple(found)


def read_parts(
    draft: Draft,
    files: Collection[str],
    directories: Collection[str] = (),
    models: Sequence[Component] = (),
) -> Mapping[str, str]:
    """Read the weights, the optimizer and the state; return the weights' metadata.

    Weights lie in the directory itself, else in the folder of the first of ``models``; none at
    all are a fault. Of a second model only the header is read: its tensors have the names of the
    first one's.
    """
    metadata: Mapping[str, str] = {}
    if LORA_WEIGHTS in files:
        metadata = draft.read_tensors(LORA_WEIGHTS)
    elif has_weights(files):
        read_weights(draft, files)
    elif PICKLED_MODEL in files:
        draft.read_torch(PICKLED_MODEL)
    elif models:
        models[0].read(draft)
    elif not has_nested_weights(draft.root, directories):
        draft.missing_weights("weights")
    read_nested(draft, directories)
    for name in sorted(name for name in files if part_of(name) == "optimizer"):
        draft.read_optimizer(name)
    for name in sorted(files):
        part = part_of(name)
        if part is not None:
            draft.note(name, part)
    for name in sorted(name for model in models[1:] for name in model.paths):
        draft.note(name, "state")
    return metadata
