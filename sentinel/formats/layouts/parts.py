"""The file names that Transformers and PEFT give to a checkpoint's parts.

Source: transformers/trainer.py (`OPTIMIZER_NAME` and its neighbours), transformers/utils and
peft/utils/constants.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sentinel.checkpoint import Member, Part
from sentinel.errors import InputError
from sentinel.formats import adapter_config, model_config, trainer_log
from sentinel.formats.adapter_config import adapter_config_of, adapter_settings
from sentinel.formats.files import stat_member
from sentinel.formats.nested import has_nested_weights, read_nested
from sentinel.formats.shards import MODEL, check_index, has_weights, indexed_files, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import AdapterConfig
    from sentinel.formats.draft import Draft
    from sentinel.formats.settings import Setting

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MODEL_CONFIG = model_config.NAME
PICKLED_ADAPTER = "adapter_model.bin"
PICKLED_WEIGHTS = (PICKLED_ADAPTER, "pytorch_model*.bin")
PICKLED_INDEX = "pytorch_model.bin.index.json"
OPTIMIZERS = ("optimizer.pt", "optimizer.bin")

_PARTS: tuple[tuple[Part, tuple[str, ...]], ...] = (
    (
        "weights",
        (
            ADAPTER_WEIGHTS,
            adapter_config.NAME,
            MODEL_CONFIG,
            "model*.safetensors",
            "model.safetensors.index.json",
            *PICKLED_WEIGHTS,
            PICKLED_INDEX,
        ),
    ),
    ("optimizer", OPTIMIZERS),
    (
        "state",
        (
            "scheduler.pt",
            "scaler.pt",
            "rng_state*.pth",
            "training_args.bin",
            trainer_log.NAME,
        ),
    ),
)


def part_of(name: str) -> Part | None:
    """Return the part a file belongs to, None when a resume does not need it."""
    for part, patterns in _PARTS:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return part
    return None


def is_pickled(name: str) -> bool:
    """Tell whether a file holds weights as torch pickles them."""
    return any(fnmatchcase(name, pattern) for pattern in PICKLED_WEIGHTS)


def holds_weights(files: Collection[str]) -> bool:
    """Tell whether any file holds an adapter's or a model's weights."""
    return ADAPTER_WEIGHTS in files or has_weights(files) or any(map(is_pickled, files))


def stat_parts(path: Path, names: Collection[str]) -> tuple[Member, ...]:
    """Return the members among some names; what cannot be looked at is left out."""
    found = []
    for name in sorted(names):
        part = part_of(name)
        try:
            if part is not None:
                found.append(stat_member(path, name, part))
        except InputError:
            continue
    return tuple(found)


def read_all(
    draft: Draft, files: Collection[str], directories: Collection[str] = ()
) -> tuple[AdapterConfig | None, dict[str, Setting]]:
    """Read whatever weights there are, in shards' directories too, and note the other parts.

    Returns the adapter's description and the settings it tells. No weights at all are a fault;
    pickled ones are read where no safetensors file holds the same.
    """
    adapter, settings = None, dict[str, "Setting"]()
    pickled: Mapping[str, str] = {}
    if ADAPTER_WEIGHTS in files or adapter_config.NAME in files:
        adapter, settings = _read_adapter(draft, files)
    if MODEL_CONFIG in files:
        described = draft.read_json(MODEL_CONFIG, "weights") or {}
        settings = {**model_config.settings_of_model(described), **settings}
    if has_weights(files):
        read_weights(draft, files, MODEL)
    elif PICKLED_INDEX in files:
        pickled = _note_named(draft, files)
    for name in sorted(files):
        part = part_of(name)
        if _is_only_pickled(name, files):
            draft.read_torch(name)
        elif name in OPTIMIZERS:
            draft.read_optimizer(name)
        elif part is not None:
            draft.note(name, part)
    check_index(draft, PICKLED_INDEX, pickled)
    settings = {**read_nested(draft, directories), **settings}
    if not holds_weights(files) and not has_nested_weights(draft.root, directories):
        draft.missing_weights("weights")
    return adapter, settings


def _note_named(draft: Draft, files: Collection[str]) -> Mapping[str, str]:
    """Turn pickled shards that are named and not there into faults; return files by tensor."""
    named = indexed_files(draft, PICKLED_INDEX)
    for name in sorted(set(named.values())):
        if name not in files:
            draft.add_member(name, "weights")
    return named


def _read_adapter(
    draft: Draft, files: Collection[str]
) -> tuple[AdapterConfig | None, dict[str, Setting]]:
    content = draft.read_json(adapter_config.NAME, "weights")
    if ADAPTER_WEIGHTS in files:
        draft.read_tensors(ADAPTER_WEIGHTS)
    if content is None:
        return None, {}
    adapter = adapter_config_of(content)
    return adapter, adapter_settings(content, adapter)


def _is_only_pickled(name: str, files: Collection[str]) -> bool:
    """Tell whether a file holds, as a pickle, weights that no safetensors file holds too."""
    if not is_pickled(name):
        return False
    return ADAPTER_WEIGHTS not in files if name == PICKLED_ADAPTER else not has_weights(files)
