"""One file that OneTrainer saved: its mark is the metadata, its settings are in them if asked.

Source: modules/modelSaver/mixin/DtypeModelSaverMixin.py and modules/util/modelSpec of
https://github.com/Nerogar/OneTrainer; `ot_config` is there when `include_train_config` is set.
The dtype in the file is `output_dtype`, not the one it was trained in. Text embeddings that were
trained with it lie in `<file>_embeddings/` where they are not bundled into it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import SUFFIX, Candidate, files_at, stat_file
from sentinel.formats.naming import COMPANIONS, step_of_path
from sentinel.formats.onetrainer_config import adapter_of, settings_of, updates_done
from sentinel.formats.roles import is_adapter_key

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Place

NAME = "onetrainer-save"

_MARKS = ("ot_revision", "ot_branch", "ot_config")
_NAME = re.compile(
    r"(?P<prefix>.*?)\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-save-(?P<step>\d{1,15})-(?P<epoch>\d{1,9})-\d+"
    r"\.safetensors"
)


def recognise(place: Place) -> Candidate | None:
    """Take a file whose metadata OneTrainer wrote, or with a save's name and an adapter's keys."""
    header = place.header()
    if header is None:
        return None
    named = _NAME.fullmatch(place.path.name)
    marked = any(mark in header.metadata for mark in _MARKS)
    if not marked and not (named and any(is_adapter_key(one.name) for one in header.tensors)):
        return None
    return place.candidate(NAME)


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file and at the text embeddings beside it."""
    beside = []
    for name in _embeddings(path):
        try:
            beside.append(stat_member(path.parent, name, "state"))
        except InputError:
            continue
    return (*stat_file(path), *beside)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: the file has no mark, only its length."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the header, and the configuration where the metadata hold it."""
    draft = Draft(path.parent)
    config = _config(draft.read_tensors(path.name))
    for name in _embeddings(path):
        draft.add_member(name, "state")
    named = _NAME.fullmatch(path.name)
    step = int(named["step"]) if named else step_of_path(path)
    return draft.finish(
        path,
        NAME,
        complete=None,
        trainer="onetrainer",
        step=step,
        epoch=float(named["epoch"]) if named else None,
        updates_done=updates_done(step, config),
        adapter=adapter_of(config) if config else None,
        settings=settings_of(config),
    )


def _embeddings(path: Path) -> list[str]:
    directory = f"{path.name}{COMPANIONS}"
    names = sorted(files_at(path.parent / directory))
    return [f"{directory}/{name}" for name in names if name.endswith(SUFFIX)]


def _config(metadata: Mapping[str, str]) -> Mapping[str, object]:
    try:
        content = json.loads(metadata.get("ot_config", ""))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
