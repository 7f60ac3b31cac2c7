"""One file that ai-toolkit saved; the metadata's `training_info` holds step and epoch.

Source: jobs/process/BaseSDTrainProcess.py and toolkit/metadata.py of
https://github.com/ostris/ai-toolkit. One `optimizer.pt` beside all of them belongs to the newest
only and is no part of any. Adapter weights are trained in fp32 and saved in `save.dtype`. Where the
file has no alphas they were set to the rank, so that the scale is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats import ai_toolkit_config
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import stat_file
from sentinel.formats.naming import step_of_path
from sentinel.formats.scalars import as_count, as_text

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "ai-toolkit"

_INFO = "training_info"
_SOFTWARE = "software"


def recognise(place: Place) -> Candidate | None:
    """Take a file whose metadata tell its training in ai-toolkit's way."""
    header = place.header()
    if header is None or _INFO not in header.metadata:
        return None
    return place.candidate(NAME, step=_info(header.metadata).get("step"))


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file."""
    return stat_file(path)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: the file has no mark, only its length."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the header, what its metadata tells, and the job's configuration beside it."""
    draft = Draft(path.parent)
    metadata = draft.read_tensors(path.name)
    info = _info(metadata)
    step, epoch = info.get("step", step_of_path(path)), info.get("epoch")
    process = _process_beside(path, metadata.get("ss_output_name"))
    known = {
        "precision.adapter": "fp32",
        "base.version": metadata.get("ss_base_model_version"),
        "versions.ai_toolkit": _version(metadata),
    }
    return draft.finish(
        path,
        NAME,
        complete=None,
        trainer=NAME,
        step=step,
        epoch=None if epoch is None else float(epoch),
        updates_done=ai_toolkit_config.updates_of(step, process),
        settings={
            **ai_toolkit_config.settings_of(process),
            **{name: text for name, text in known.items() if text is not None},
        },
    )


def _process_beside(path: Path, name: str | None) -> Mapping[str, object]:
    """Return what the job was told, if the file beside was there when this save was written."""
    file = path.with_name(ai_toolkit_config.NAME)
    try:
        if file.stat().st_mtime_ns > path.stat().st_mtime_ns:
            return {}
        # PyYAML is imported only where there is such a file.
        from sentinel.formats.containers.yaml_text import read_yaml_object  # noqa: PLC0415

        return ai_toolkit_config.process_of(read_yaml_object(file), name)
    except (InputError, OSError):
        return {}


def _version(metadata: Mapping[str, str]) -> str | None:
    return as_text(_object(metadata, _SOFTWARE).get("version"))


def _info(metadata: Mapping[str, str]) -> dict[str, int]:
    fields = _object(metadata, _INFO)
    counts = {name: as_count(fields.get(name)) for name in ("step", "epoch")}
    return {name: value for name, value in counts.items() if value is not None}


def _object(metadata: Mapping[str, str], key: str) -> Mapping[str, object]:
    try:
        content = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
