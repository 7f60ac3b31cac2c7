"""`checkpoint-N` of SimpleTuner: accelerate's files, its own state, and `.guard` last.

Source: simpletuner/helpers/training/save_hooks.py, state_tracker.py and
helpers/utils/checkpoint_manager.py of https://github.com/bghira/SimpleTuner. The manifest before
the guard lists every file.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.adapter_config import adapter_settings
from sentinel.formats.draft import Draft
from sentinel.formats.files import list_directory, open_regular, stat_member
from sentinel.formats.layouts.accelerate_parts import (
    LORA_WEIGHTS,
    MARK,
    part_of,
    read_parts,
    stat_parts,
)
from sentinel.formats.layouts.base import Candidate, files_at
from sentinel.formats.lora_metadata import (
    LYCORIS_CONFIG,
    adapter_of_lycoris,
    adapter_of_metadata,
    lycoris_of_metadata,
    metadata_settings,
)
from sentinel.formats.naming import is_plain_name
from sentinel.formats.scalars import as_count, as_finite, as_text
from sentinel.formats.simpletuner_config import settings_near, updates_done

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import AdapterConfig, Checkpoint, Member
    from sentinel.formats.layouts.base import Place
    from sentinel.formats.settings import Setting

NAME = "simpletuner"
STATE = "training_state.json"
GUARD = ".guard"
MANIFEST = "checkpoint_manifest.json"
PREFETCH = "ramtorch_prefetch_orders.json"
AVERAGE = "ema_model.pt"

_DIRECTORY = re.compile(r"checkpoint-(\d{1,15})(?:-rolling)?")
_GUARD_SAYS = b"complete"


def recognise(place: Place) -> Candidate | None:
    """Take a directory with SimpleTuner's state or its guard."""
    if STATE not in place.files and not place.files >= {GUARD, MANIFEST}:
        return None
    return Candidate(place.path, NAME, str(place.path.parent), _named_step(place.path))


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that a resume would load."""
    average = []
    for name in _average(path):
        try:
            average.append(stat_member(path, name, "state"))
        except InputError:
            continue
    return (*stat_parts(path, files_at(path)), *average)


def complete(path: Path) -> bool | None:
    """Tell whether the guard says so; None for what an older version may have written whole.

    Without a guard: since July 2026 (the prefetch orders are there from the start) it is still to
    come. Before May 2026 there was none, and what came last was the manifest, before January the
    data's state; a later version passes through the same states within moments.
    """
    files = files_at(path)
    if GUARD in files:
        try:
            with open_regular(path / GUARD) as (file, _size_bytes):
                return file.read(len(_GUARD_SAYS)) == _GUARD_SAYS
        except InputError:
            return False
    if PREFETCH in files or MARK not in files:
        return False
    ended = any(fnmatchcase(name, "training_state-*.json") for name in files) or MANIFEST in files
    return None if ended else False


def read(path: Path) -> Checkpoint:
    """Read headers, SimpleTuner's state, and the adapter's description where there is one."""
    draft = Draft(path)
    files = files_at(path)
    state = (draft.read_json(STATE, "state") if STATE in files else None) or {}
    metadata = read_parts(draft, files)
    for name in _average(path):
        draft.note(name, "state")
    is_complete = complete(path)
    if is_complete and MANIFEST in files:
        _check_manifest(draft)
    adapter = adapter_of_metadata(metadata) or lycoris_of_metadata(metadata)
    if LYCORIS_CONFIG in files:
        adapter = adapter_of_lycoris(draft.read_json(LYCORIS_CONFIG, "weights") or {})
    steps = (state.get("global_step"), metadata.get("global_step"))
    known = (step for step in map(as_count, steps) if step is not None)
    step = next(known, _named_step(path))
    weights = draft.members.get(LORA_WEIGHTS)
    near = settings_near(path, weights.mtime_ns) if weights else {}
    settings = {**near, **_described(adapter), **metadata_settings(metadata)}
    return draft.finish(
        path,
        NAME,
        complete=is_complete,
        trainer="simpletuner",
        step=step,
        epoch=as_finite(state.get("epoch")),
        updates_done=updates_done(step, near),
        adapter=adapter,
        settings=settings,
        saved_as_trained=True,
    )


def _described(adapter: AdapterConfig | None) -> dict[str, Setting]:
    return {} if adapter is None else adapter_settings({}, adapter)


def _check_manifest(draft: Draft) -> None:
    """Turn files that the manifest lists and that are gone into faults."""
    listed = (draft.read_json(MANIFEST, "state") or {}).get("files")
    for name in listed if isinstance(listed, list) else ():
        text = as_text(name) or ""
        part = part_of(text) if is_plain_name(text) else None
        if part is not None and text not in draft.members:
            draft.add_member(text, part)


def _average(path: Path) -> list[str]:
    """Return where the averaged weights lie that a resume goes on with."""
    try:
        directories = list_directory(path)[1]
    except InputError:
        return []
    names = sorted(name for name in directories if name.endswith("_ema"))
    return [f"{name}/{AVERAGE}" for name in names if AVERAGE in files_at(path / name)]


def _named_step(path: Path) -> int | None:
    match = _DIRECTORY.fullmatch(path.name)
    return int(match[1]) if match else None
