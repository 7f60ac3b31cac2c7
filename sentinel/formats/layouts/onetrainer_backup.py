"""A backup directory of OneTrainer: `lora/`, `embeddings/`, `optimizer/`, `ema/`, then its JSON.

Source: modules/trainer/GenericTrainer.py and modules/modelSaver/mixin of
https://github.com/Nerogar/OneTrainer. `meta.json` and then `onetrainer_config/args.json` end the
write; the copies of concepts and samples after them are optional.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import Part
from sentinel.errors import InputError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import SUFFIX, Candidate, files_at
from sentinel.formats.onetrainer_config import adapter_of, settings_of, updates_done
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Place

NAME = "onetrainer-backup"
META = "meta.json"
CONFIG_DIRECTORY = "onetrainer_config"
ARGUMENTS = f"{CONFIG_DIRECTORY}/args.json"
WEIGHTS = "lora/lora.safetensors"
OPTIMIZER = "optimizer/optimizer.pt"

_DIRECTORY = re.compile(
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-backup-(?P<step>\d{1,15})-(?P<epoch>\d{1,9})-\d{1,15}"
)
_FILES: tuple[tuple[str, Part], ...] = (
    (WEIGHTS, "weights"),
    (OPTIMIZER, "optimizer"),
    ("ema/ema.pt", "state"),
    (META, "state"),
    (ARGUMENTS, "state"),
)


def recognise(place: Place) -> Candidate | None:
    """Take a directory with a backup's name, or with its two JSON files under any name."""
    named = _DIRECTORY.fullmatch(place.path.name) if place.is_directory else None
    marked = META in place.files and CONFIG_DIRECTORY in place.directories
    if not named and not marked:
        return None
    step = int(named["step"]) if named else _progress(_content(place.path / META)).get("step")
    return Candidate(place.path, NAME, str(place.path.parent), step)


def members(path: Path) -> tuple[Member, ...]:
    """Look at every file that a resume would load."""
    found = []
    for name, part in _names(path):
        try:
            found.append(stat_member(path, name, part))
        except InputError:
            continue
    return tuple(found)


def complete(path: Path) -> bool | None:
    """Tell whether both JSON files that end a backup can be read."""
    return bool(_progress(_content(path / META))) and bool(_content(path / ARGUMENTS))


def read(path: Path) -> Checkpoint:
    """Read the header of the adapter, the progress, and the configuration it was trained with."""
    draft = Draft(path)
    present = {member.path for member in members(path)}
    meta = draft.read_json(META, "state") or {}
    config = draft.read_json(ARGUMENTS, "state") or {}
    if WEIGHTS in present:
        draft.read_tensors(WEIGHTS)
    else:
        draft.missing_weights(WEIGHTS)
    if OPTIMIZER in present:
        draft.read_optimizer(OPTIMIZER)
    for name, part in _names(path):
        if name in present:
            draft.note(name, part)
    named = _DIRECTORY.fullmatch(path.name)
    progress = _progress(meta)
    step = progress.get("step", int(named["step"]) if named else None)
    epoch = progress.get("epoch", int(named["epoch"]) if named else None)
    return draft.finish(
        path,
        NAME,
        complete=bool(progress) and bool(config),
        trainer="onetrainer",
        step=step,
        epoch=None if epoch is None else float(epoch),
        updates_done=updates_done(step, config),
        adapter=adapter_of(config) if config else None,
        settings=settings_of(config),
        saved_as_trained=True,
    )


def _names(path: Path) -> Iterator[tuple[str, Part]]:
    yield from _FILES
    for name in sorted(files_at(path / "embeddings")):
        if name.endswith(SUFFIX):
            yield f"embeddings/{name}", "state"


def _content(path: Path) -> Mapping[str, object]:
    try:
        return read_json_object(path)
    except InputError:
        return {}


def _progress(meta: Mapping[str, object]) -> dict[str, int]:
    """Return step and epoch of `meta.json`, empty without them."""
    progress = meta.get("train_progress")
    fields = progress if isinstance(progress, dict) else {}
    found = {"step": fields.get("global_step"), "epoch": fields.get("epoch")}
    counts = {name: as_count(value) for name, value in found.items()}
    return {name: value for name, value in counts.items() if value is not None}
