"""`<name>-state/` of sd-scripts and musubi-tuner: `train_state.json`, then accelerate's files.

Source: train_network.py and library/train_util.py of https://github.com/kohya-ss/sd-scripts;
the network's tensors lie in `model.safetensors` under kohya's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.accelerate_parts import MARK, read_parts, stat_parts
from sentinel.formats.layouts.base import Candidate, files_at
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
    step = step_of_path(model)
    return Candidate(place.path, NAME, group_of(model) + _SUFFIX, _step(place.path) or step)


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that `--resume` would read."""
    return stat_parts(path, files_at(path))


def complete(path: Path) -> bool | None:
    """Tell whether the random states, written last, are there."""
    return MARK in files_at(path)


def read(path: Path) -> Checkpoint:
    """Read the headers of the network and the trainer's step and epoch."""
    draft = Draft(path)
    files = files_at(path)
    state = (draft.read_json(STATE, "state") if STATE in files else None) or {}
    read_parts(draft, files)
    step, epoch = as_count(state.get("current_step")), as_count(state.get("current_epoch"))
    return draft.finish(
        path,
        NAME,
        complete=MARK in files,
        trainer="sd-scripts",
        step=step_of_path(_model_path(path)) if step is None else step,
        epoch=None if epoch is None else float(epoch),
        saved_as_trained=True,
    )


def _model_path(path: Path) -> Path:
    """Return the path of the model file this state belongs to, which carries the step."""
    return path.with_name(path.name.removesuffix(_SUFFIX) or path.name)


def _step(path: Path) -> int | None:
    try:
        return as_count(read_json_object(path / STATE).get("current_step"))
    except InputError:
        return None
