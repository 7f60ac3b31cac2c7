"""Which files of a checkpoint a copy has, and which not, with the reason."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sentinel.formats.containers.on_demand import TORCH_SUFFIXES
from sentinel.formats.naming import is_temporary
from sentinel.regular import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint
    from sentinel.receipt import OptimizerWish
    from sentinel.repairs.files.keeping import Keeping

_HALF_WRITTEN = (".tmp", "-tmp")


@dataclass(frozen=True, slots=True)
class Contents:
    """Files of a checkpoint relative to its root: those of the copy, and those left out."""

    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def contents_of(checkpoint: Checkpoint, keeping: Keeping, optimizer: OptimizerWish) -> Contents:
    """Return what a copy of the checkpoint consists of.

    Raises UnreadableError when a directory of it cannot be listed.
    """
    members = {member.path: member for member in checkpoint.members}
    files = sorted({*members, *_beside(checkpoint, keeping)})
    kept, left_out = [], []
    for name in files:
        reason = _reason(name, checkpoint, keeping, optimizer)
        if reason is None:
            kept.append(name)
        else:
            left_out.append((name, reason))
    return Contents(tuple(kept), tuple(left_out))


def _reason(
    name: str, checkpoint: Checkpoint, keeping: Keeping, optimizer: OptimizerWish
) -> str | None:
    """Return why a file is left out, None for one that is copied."""
    if not is_file(checkpoint.root / name):
        return "is no regular file, or leads nowhere"
    part = next((one.part for one in checkpoint.members if one.path == name), None)
    if _is_second(name, checkpoint):
        return "the weights lie in a safetensors file too, which is read first"
    if optimizer != "drop":
        return None
    if keeping.with_optimizer is None:
        return None if part == "weights" else "its loader needs the optimizer beside it"
    if any(fnmatchcase(name, pattern) for pattern in keeping.with_optimizer):
        return "goes with the optimizer"
    return "goes with the optimizer" if part == "optimizer" else None


def _is_second(name: str, checkpoint: Checkpoint) -> bool:
    """Tell whether pickled weights are those that a safetensors file holds as well."""
    is_pickled = name.endswith(TORCH_SUFFIXES) and any(
        one.path == name and one.part == "weights" for one in checkpoint.members
    )
    return is_pickled and all(tensor.member != name for tensor in checkpoint.tensors)


def _beside(checkpoint: Checkpoint, keeping: Keeping) -> Iterator[str]:
    """Yield the files of a directory that are no members: tokenizers, a card, a template."""
    if checkpoint.root != checkpoint.path:
        return
    for directory, below, files in os.walk(checkpoint.path):
        inner = [name for name in below if not is_temporary(name)]
        below[:] = sorted(inner) if keeping.is_own else []
        for name in sorted(files):
            if not name.endswith(_HALF_WRITTEN):
                yield _relative(checkpoint.path, directory, name)


def _relative(root: Path, directory: str, name: str) -> str:
    inside = os.path.relpath(directory, root)
    return name if inside == os.curdir else f"{inside.replace(os.sep, '/')}/{name}"
