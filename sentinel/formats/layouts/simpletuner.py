"""`checkpoint-N` of SimpleTuner: accelerate's files, its own state, and `.guard` last.

Source: simpletuner/helpers/training/save_hooks.py, state_tracker.py and
helpers/utils/checkpoint_manager.py of https://github.com/bghira/SimpleTuner. Versions before
`.guard` end with `training_state-<backend>.json` after accelerate's random states.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.draft import Draft
from sentinel.formats.files import open_regular
from sentinel.formats.layouts.accelerate_parts import MARK, read_parts, stat_parts
from sentinel.formats.layouts.base import Candidate, files_at
from sentinel.formats.lora_metadata import (
    LYCORIS_CONFIG,
    adapter_of_lycoris,
    adapter_of_metadata,
    metadata_settings,
)
from sentinel.formats.scalars import as_count, as_finite

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Place

NAME = "simpletuner"
STATE = "training_state.json"
GUARD = ".guard"
MANIFEST = "checkpoint_manifest.json"

_DIRECTORY = re.compile(r"checkpoint-(\d{1,15})(?:-rolling)?")
_GUARD_SAYS = b"complete"


def recognise(place: Place) -> Candidate | None:
    """Take a directory with SimpleTuner's state or its guard."""
    if STATE not in place.files and not place.files >= {GUARD, MANIFEST}:
        return None
    return Candidate(place.path, NAME, str(place.path.parent), _named_step(place.path))


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that a resume would load."""
    return stat_parts(path, files_at(path))


def complete(path: Path) -> bool | None:
    """Tell whether the guard says so, or in older versions whether the last files are there."""
    files = files_at(path)
    if GUARD in files:
        try:
            with open_regular(path / GUARD) as (file, _size_bytes):
                return file.read(len(_GUARD_SAYS)) == _GUARD_SAYS
        except InputError:
            return False
    is_older = MANIFEST not in files and MARK in files
    return is_older and any(fnmatchcase(name, "training_state-*.json") for name in files)


def read(path: Path) -> Checkpoint:
    """Read headers, SimpleTuner's state, and the adapter's description where there is one."""
    draft = Draft(path)
    files = files_at(path)
    state = (draft.read_json(STATE, "state") if STATE in files else None) or {}
    metadata = read_parts(draft, files)
    adapter = adapter_of_metadata(metadata)
    if LYCORIS_CONFIG in files:
        adapter = adapter_of_lycoris(draft.read_json(LYCORIS_CONFIG, "weights") or {})
    steps = (state.get("global_step"), metadata.get("global_step"))
    known = (step for step in map(as_count, steps) if step is not None)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        trainer="simpletuner",
        step=next(known, _named_step(path)),
        epoch=as_finite(state.get("epoch")),
        adapter=adapter,
        settings=metadata_settings(metadata),
        saved_as_trained=True,
    )


def _named_step(path: Path) -> int | None:
    match = _DIRECTORY.fullmatch(path.name)
    return int(match[1]) if match else None
