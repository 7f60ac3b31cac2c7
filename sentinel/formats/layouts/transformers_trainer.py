"""`checkpoint-N` as Transformers' Trainer writes it: `trainer_state.json` comes last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats import trainer_log, training_arguments
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import directories_at, files_at
from sentinel.formats.layouts.hf_relatives import marks_in, settings_of, trainer_of
from sentinel.formats.layouts.parts import read_all, stat_parts
from sentinel.formats.naming import step_of_path
from sentinel.formats.nested import stat_nested
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "transformers-trainer"

_DIRECTORY = re.compile(r"checkpoint-\d+")
_OTHER_TRAINERS = frozenset(
    {"pytorch_lora_weights.safetensors", "random_states_0.pkl", "training_state.json"}
)
"""Files of the diffusers scripts and of SimpleTuner, whose directories have the same name."""


def recognise(place: Place) -> Candidate | None:
    """Take a directory with the Trainer's state, or with its name.

    Also an empty one: the Trainer resumes from the highest number, whatever lies in it.
    """
    if not place.is_directory:
        return None
    named = _DIRECTORY.fullmatch(place.path.name) and not place.files & _OTHER_TRAINERS
    return place.candidate(NAME) if named or trainer_log.NAME in place.files else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that a resume would load."""
    return (*stat_parts(path, files_at(path)), *stat_nested(path, directories_at(path)))


def complete(path: Path) -> bool | None:
    """Tell whether `trainer_state.json` holds a step: it is written last, but not at once."""
    try:
        content = read_json_object(path / trainer_log.NAME)
    except InputError:
        return False
    return as_count(content.get("global_step")) is not None


def read(path: Path) -> Checkpoint:
    """Read headers, the adapter's description and the Trainer's log."""
    draft = Draft(path)
    files = files_at(path)
    adapter, settings = read_all(draft, files, directories_at(path))
    content = draft.read_json(trainer_log.NAME, "state")
    log = trainer_log.trainer_log_of(content or {})
    return draft.finish(
        path,
        NAME,
        complete=log.step is not None,
        trainer=trainer_of(
            files, marks_in(path.parent), adapter, draft.state.get(training_arguments.NAME)
        ),
        step=step_of_path(path) if log.step is None else log.step,
        epoch=log.epoch,
        updates_done=log.updates_done,
        adapter=adapter,
        metrics=log.metrics,
        settings={**settings, **settings_of(path, files)},
        saved_as_trained=True,
    )
