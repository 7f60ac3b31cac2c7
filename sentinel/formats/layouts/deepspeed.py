"""A save of DeepSpeed's engine: the directory of one tag, and ``latest`` beside it, written last.

A directory in which ``latest`` names a save that is not there is a checkpoint too, a broken one:
it is what `load_checkpoint` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.deepspeed import read_with_step, stat_deepspeed
from sentinel.formats.deepspeed_names import LATEST, latest_tag, state_files
from sentinel.formats.draft import Draft
from sentinel.formats.layouts import accelerate_state, transformers_trainer
from sentinel.formats.layouts.base import place_at
from sentinel.formats.naming import step_of, step_of_path
from sentinel.formats.nested import missing_tag, stat_latest

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "deepspeed"

_CONVERTER = "zero_to_fp32.py"


def recognise(place: Place) -> Candidate | None:
    """Take a tag's directory that is no part of another checkpoint, or one that lacks its tag."""
    if not place.is_directory:
        return None
    if state_files(place.files):
        return None if _is_nested(place.path) else place.candidate(NAME)
    is_root = LATEST in place.files and _CONVERTER in place.files
    tag = latest_tag(place.path) if is_root else None
    return place.candidate(NAME) if tag is not None and tag not in place.directories else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the states of every process."""
    return (*stat_latest(path), *stat_deepspeed(path, ""))


def complete(path: Path) -> bool | None:
    """Tell whether ``latest`` names this save or a later one; None where there is no such file."""
    tag = latest_tag(path.parent)
    if tag is None or tag == path.name:
        return None if tag is None else True
    own, newest = step_of(path.name), step_of(tag)
    return None if own is None or newest is None else newest >= own


def read(path: Path) -> Checkpoint:
    """Read what the states of every process say of themselves."""
    draft = Draft(path)
    tag = latest_tag(path)
    if tag is not None:
        draft.add_member(LATEST, "state")
        draft.fault(missing_tag(path, tag), "weights", LATEST)
        return draft.finish(path, NAME, complete=None, trainer=NAME)
    settings, step = read_with_step(draft, "", with_weights=True)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        trainer=NAME,
        step=step_of_path(path) if step is None else step,
        settings=settings,
        # Beside master weights those of the model are only what the layers compute with.
        saved_as_trained="precision.master" not in settings,
    )


def _is_nested(path: Path) -> bool:
    """Tell whether a directory lies in a checkpoint of accelerate's or of the Trainer's."""
    try:
        parent = place_at(path.parent)
    except InputError:
        return False
    layouts = (transformers_trainer, accelerate_state)
    return any(layout.recognise(parent) is not None for layout in layouts)
