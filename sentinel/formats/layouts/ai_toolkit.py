"""One file that ai-toolkit saved; the metadata's `training_info` holds step and epoch.

Source: jobs/process/BaseSDTrainProcess.py and toolkit/metadata.py of
https://github.com/ostris/ai-toolkit. One `optimizer.pt` beside all of them belongs to the newest
only and is no part of any. Adapter weights are trained in fp32 and saved in `save.dtype`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import stat_file
from sentinel.formats.naming import step_of_path
from sentinel.formats.scalars import as_count

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "ai-toolkit"

_INFO = "training_info"


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
    """Read the header and what its metadata tells."""
    draft = Draft(path.parent)
    metadata = draft.read_tensors(path.name)
    info = _info(metadata)
    epoch = info.get("epoch")
    version = metadata.get("ss_base_model_version")
    return draft.finish(
        path,
        NAME,
        complete=None,
        trainer="ai-toolkit",
        step=info.get("step", step_of_path(path)),
        epoch=None if epoch is None else float(epoch),
        settings={
            "precision.adapter": "fp32",
            **({} if version is None else {"base.version": version}),
        },
    )


def _info(metadata: Mapping[str, str]) -> dict[str, int]:
    try:
        content = json.loads(metadata.get(_INFO, ""))
    except (ValueError, RecursionError):
        return {}
    fields = content if isinstance(content, dict) else {}
    counts = {name: as_count(fields.get(name)) for name in ("step", "epoch")}
    return {name: value for name, value in counts.items() if value is not None}
