"""One safetensors file with everything, as sd-scripts, LyCORIS and their relatives write it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats import ss_metadata
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import stat_file
from sentinel.formats.naming import step_of_path
from sentinel.formats.roles import PEFT_PREFIX, is_adapter_key

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "kohya"


def recognise(place: Place) -> Candidate | None:
    """Take a file whose header names an adapter's tensors the way these trainers do."""
    header = place.header()
    if header is None or not any(_is_marked(tensor.name) for tensor in header.tensors):
        return None
    return place.candidate(NAME, step=ss_metadata.step_of(header.metadata))


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
    steps = ss_metadata.step_of(metadata)
    return draft.finish(
        path,
        NAME,
        complete=None,
        trainer=ss_metadata.trainer_of(metadata),
        step=step_of_path(path) if steps is None else steps,
        epoch=ss_metadata.epoch_of(metadata),
        updates_done=ss_metadata.updates_of(metadata),
        adapter=ss_metadata.adapter_of(metadata),
        settings=ss_metadata.settings_of(metadata),
    )


def _is_marked(key: str) -> bool:
    return not key.startswith(PEFT_PREFIX) and is_adapter_key(key)
