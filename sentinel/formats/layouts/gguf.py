"""A whole model as llama.cpp loads it: one GGUF file, or its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.formats.draft import Draft
from sentinel.formats.layouts import gguf_parts
from sentinel.formats.naming import step_of_path

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "gguf"

_SETTINGS = {
    "general.architecture": "model.architecture",
    "general.name": "model.name",
    "general.size_label": "model.size",
    "general.quantized_by": "model.quantized_by",
}


def recognise(place: Place) -> Candidate | None:
    """Take any file that calls itself GGUF."""
    return place.candidate(NAME) if gguf_parts.is_gguf(place) else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file, or at all parts of it that are there."""
    return gguf_parts.stat_set(path)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: the file has no mark, only its length."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the header, of a split file those of all parts."""
    draft = Draft(path.parent)
    version, metadata = gguf_parts.read_set(draft, path)
    return draft.finish(
        path,
        NAME,
        complete=None,
        step=step_of_path(path),
        settings=gguf_parts.settings_of(version, metadata, _SETTINGS),
    )
