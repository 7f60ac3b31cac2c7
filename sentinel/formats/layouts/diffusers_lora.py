"""`pytorch_lora_weights.safetensors` of diffusers: alone, or first in a script's `checkpoint-N`.

Source: src/diffusers/loaders/lora_base.py and examples/*/train_*lora*.py of
https://github.com/huggingface/diffusers: the weights are written by a hook before accelerate's
files, of which `random_states_0.pkl` is the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats.draft import Draft
from sentinel.formats.layouts.accelerate_parts import (
    LORA_WEIGHTS,
    MARK,
    OPTIMIZER,
    read_parts,
    stat_parts,
)
from sentinel.formats.layouts.base import files_at, stat_file
from sentinel.formats.lora_metadata import adapter_of_metadata, metadata_settings
from sentinel.formats.naming import step_of_path
from sentinel.formats.roles import PEFT_PREFIX
from sentinel.regular import is_directory

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "diffusers-lora"

_KEYS = (".lora_A.", ".lora_B.", ".lora.down.", ".lora_linear_layer.", ".processor.")


def recognise(place: Place) -> Candidate | None:
    """Take a directory with the file, or a file with its name or its keys."""
    if place.is_directory:
        return place.candidate(NAME) if LORA_WEIGHTS in place.files else None
    header = place.header()
    if header is None:
        return None
    keyed = any(
        not tensor.name.startswith(PEFT_PREFIX) and any(key in tensor.name for key in _KEYS)
        for tensor in header.tensors
    )
    return place.candidate(NAME) if keyed or place.path.name == LORA_WEIGHTS else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the weights and, in a script's checkpoint, at accelerate's files."""
    return stat_parts(path, files_at(path)) if is_directory(path) else stat_file(path)


def complete(path: Path) -> bool | None:
    """Tell whether the random states are there; None where the weights lie alone."""
    files = files_at(path) if is_directory(path) else frozenset()
    return MARK in files if _is_script_checkpoint(path, files) else None


def read(path: Path) -> Checkpoint:
    """Read the headers of the weights and the adapter's description in their metadata."""
    if is_directory(path):
        files = files_at(path)
        draft = Draft(path)
        metadata = read_parts(draft, files)
    else:
        files = frozenset()
        draft = Draft(path.parent)
        metadata = draft.read_tensors(path.name)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        trainer="diffusers",
        step=step_of_path(path),
        adapter=adapter_of_metadata(metadata),
        settings=metadata_settings(metadata),
        saved_as_trained=_is_script_checkpoint(path, files),
    )


def _is_script_checkpoint(path: Path, files: frozenset[str]) -> bool:
    return is_directory(path) and (
        path.name.startswith("checkpoint") or OPTIMIZER in files or MARK in files
    )
