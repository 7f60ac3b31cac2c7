"""From a path to a `Checkpoint`: the layouts asked in turn, content problems told as faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.checkpoint import Checkpoint, Member
from sentinel.errors import ConfigError, InputError, MissingMemberError, TruncatedError
from sentinel.formats.containers.on_demand import GGUF_SUFFIX, TORCH_SUFFIXES, read_gguf
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.discovery import candidate_at, discover, require_there
from sentinel.formats.distributed import SUFFIX as CHUNKS
from sentinel.formats.layouts import LAYOUTS, plain
from sentinel.formats.layouts.base import Candidate, Layout
from sentinel.formats.state_files import reader_of
from sentinel.regular import is_directory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Candidate",
    "candidate_at",
    "discover",
    "is_complete",
    "is_whole",
    "open_checkpoint",
    "open_found",
    "stat_members",
]


_NOT_WHOLE = frozenset({TruncatedError.rule, MissingMemberError.rule})


def open_checkpoint(path: Path) -> Checkpoint:
    """Understand the checkpoint at a path as far as its headers go.

    Whatever is wrong with its files becomes a fault of the checkpoint. Raises ConfigError when
    there is nothing at the path.
    """
    require_there("checkpoint", path)
    candidate = candidate_at(path)
    layout = _layout(candidate.layout) if candidate else plain
    return layout.read(path)


def open_found(path: Path, layout: str) -> Checkpoint:
    """Open what was found before; what is gone since, as after a trainer's rotation, has faults."""
    try:
        return open_checkpoint(path)
    except ConfigError:
        return _layout(layout).read(path)


def stat_members(path: Path, layout: str) -> tuple[Member, ...]:
    """Look at the files of a checkpoint of a known layout again, without opening one."""
    return _layout(layout).members(path)


def is_complete(candidate: Candidate) -> bool | None:
    """Tell whether the layout's mark of a finished write is there; None when it has none."""
    return _layout(candidate.layout).complete(candidate.path)


def is_whole(candidate: Candidate) -> bool:
    """Tell whether every file with tensors is as long as it says itself."""
    members = stat_members(candidate.path, candidate.layout)
    if any(member.path.endswith(CHUNKS) for member in members):
        faults = _layout(candidate.layout).read(candidate.path).faults
        return not any(fault.rule in _NOT_WHOLE for fault in faults)
    root = candidate.path if is_directory(candidate.path) else candidate.path.parent
    files = [root / member.path for member in members if member.part != "state"]
    states = [root / member.path for member in members if member.part == "state"]
    pickled = [file for file in files if file.suffix in TORCH_SUFFIXES]
    others = [file for file in files if file.name.endswith((plain.SUFFIX, GGUF_SUFFIX))]
    try:
        for file in others:
            if file.name.endswith(GGUF_SUFFIX):
                read_gguf(file)
            else:
                read_safetensors_header(file)
    except InputError:
        return False
    if any(map(_is_cut_short, (*pickled, *states))):
        return False
    return bool(others or pickled)


def _is_cut_short(path: Path) -> bool:
    """Tell whether a file ends too early; what else is wrong with it no time heals."""
    read = reader_of(path.name)
    try:
        if read is not None:
            read(path)
    except TruncatedError:
        return True
    except InputError:
        return False
    return False


def _layout(name: str) -> Layout:
    for layout in LAYOUTS:
        if name == layout.NAME:
            return layout
    raise ConfigError(
        f"layout '{name}'",
        fact="is not known",
        todo="known are " + ", ".join(layout.NAME for layout in LAYOUTS),
    )
