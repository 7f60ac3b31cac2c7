"""`<name>-state/` of sd-scripts and musubi-tuner: accelerate's files, before them its own.

sd-scripts writes `train_state.json` first, musubi-tuner nothing of its own
(train_network.py and library/train_util.py of https://github.com/kohya-ss/sd-scripts,
src/musubi_tuner/training/trainer_base.py of https://github.com/kohya-ss/musubi-tuner). The
network's tensors lie in `model.safetensors` under kohya's names, in the precision they are trained
in. The metadata of `<name>.safetensors`, saved beside it at the same step, tell the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats import ss_metadata
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.accelerate_parts import MARK, read_parts, stat_parts
from sentinel.formats.layouts.base import SUFFIX, Candidate, files_at
from sentinel.formats.naming import group_of, step_of_path
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Place

NAME = "sd-scripts-state"
STATE = "train_state.json"

_SUFFIX = "-state"


def recognise(place: Place) -> Candidate | None:
    """Take a directory with the trainer's state, or with its name and accelerate's marks.

    The same weights lie beside it as a file: its history is its own.
    """
    named = place.is_directory and place.path.name.endswith(_SUFFIX)
    if STATE not in place.files and not (named and MARK in place.files):
        return None
    model = _model_path(place.path)
    step = _step(place.path, _state(place.path), _metadata_beside(place.path))
    return Candidate(place.path, NAME, group_of(model) + _SUFFIX, step)


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that `--resume` would read."""
    return stat_parts(path, files_at(path))


def complete(path: Path) -> bool | None:
    """Tell whether the random states, written last, are there."""
    return MARK in files_at(path)


def read(path: Path) -> Checkpoint:
    """Read the headers of the network, and step, epoch and settings beside it."""
    draft = Draft(path)
    files = files_at(path)
    state = (draft.read_json(STATE, "state") if STATE in files else None) or {}
    read_parts(draft, files)
    metadata = _metadata_beside(path)
    settings = ss_metadata.settings_of(metadata)
    settings.pop("precision.adapter", None)
    epoch = as_count(state.get("current_epoch"))
    return draft.finish(
        path,
        NAME,
        complete=MARK in files,
        trainer=ss_metadata.SD_SCRIPTS if STATE in files else ss_metadata.trainer_of(metadata),
        step=_step(path, state, metadata),
        epoch=ss_metadata.epoch_of(metadata) if epoch is None else float(epoch),
        updates_done=ss_metadata.updates_of(metadata),
        adapter=ss_metadata.adapter_of(metadata),
        settings=settings,
        saved_as_trained=True,
    )


def _model_path(path: Path) -> Path:
    """Return the path of the model file this state belongs to, which carries the step."""
    return path.with_name(path.name.removesuffix(_SUFFIX) or path.name)


def _state(path: Path) -> Mapping[str, object]:
    try:
        return read_json_object(path / STATE)
    except InputError:
        return {}


def _metadata_beside(path: Path) -> Mapping[str, str]:
    """Return the metadata of the file with the same weights, none when it is not there."""
    model = _model_path(path)
    try:
        return read_safetensors_header(model.with_name(model.name + SUFFIX)).metadata
    except InputError:
        return {}


def _step(path: Path, state: Mapping[str, object], metadata: Mapping[str, str]) -> int | None:
    """Return the step the trainer wrote down, else that of the file beside it, else the name's.

    The name of a state at the end of an epoch holds the epoch.
    """
    said = (as_count(state.get("current_step")), ss_metadata.step_of(metadata))
    return next((step for step in said if step is not None), step_of_path(_model_path(path)))
