"""A `.ckpt` of PyTorch Lightning, or the directory it writes when a model is sharded.

A file appears whole under its name; in a directory `meta.pt` comes last. Source: `save_checkpoint`
in src/lightning/pytorch/strategies/fsdp.py of https://github.com/Lightning-AI/pytorch-lightning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.on_demand import pickle_mentions
from sentinel.formats.distributed import (
    DESCRIPTION,
    is_distributed,
    read_distributed,
    stat_distributed,
)
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import Candidate, files_at, stat_file
from sentinel.formats.lightning_state import (
    VERSION,
    epoch_of_tree,
    is_lightning,
    optimizer_of_tree,
    settings_of_tree,
    step_of_tree,
    updates_of,
)
from sentinel.regular import is_directory

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Place

NAME = "lightning"
SUFFIX = ".ckpt"
META = "meta.pt"

_NAME = re.compile(r"(?:.*[-_])?epoch=\d+.*|last(?:-v\d+)?")
_STEP = re.compile(r"(?:.*[-_])?step=(?P<step>\d{1,15})(?!\d).*")


def recognise(place: Place) -> Candidate | None:
    """Take a `.ckpt` with Lightning's mark, and a directory of shards with its `meta.pt`.

    Of a torn file, which shows no mark, the name decides.
    """
    if place.is_directory:
        known = META in place.files and (is_distributed(place.files) or DESCRIPTION in place.files)
    else:
        known = place.path.name.endswith(SUFFIX) and _is_file_of_lightnings(place.path)
    if not known:
        return None
    match = _STEP.fullmatch(place.path.name.removesuffix(SUFFIX))
    step = int(match["step"]) if match else None
    return Candidate(place.path, NAME, str(place.path.parent), step)


def _is_file_of_lightnings(path: Path) -> bool:
    mentions = pickle_mentions(path, VERSION.encode())
    return mentions or (
        mentions is None and _NAME.fullmatch(path.name.removesuffix(SUFFIX)) is not None
    )


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file, or at the shards and `meta.pt`."""
    if not is_directory(path):
        return stat_file(path)
    return (*stat_distributed(path, "", "weights"), *_stat_meta(path))


def complete(path: Path) -> bool | None:
    """Tell whether a directory's description and `meta.pt` are there; None for a file."""
    return {DESCRIPTION, META} <= files_at(path) if is_directory(path) else None


def read(path: Path) -> Checkpoint:
    """Read what a file says of itself, or the description of the shards."""
    if is_directory(path):
        draft = Draft(path)
        read_distributed(draft)
        found = draft.torch_file(META, "state")
        tree = found.tree if found is not None else None
    else:
        draft = Draft(path.parent)
        tree = draft.read_torch(path.name)
    known = tree if isinstance(tree, dict) and is_lightning(tree) else {}
    if not is_directory(path):
        draft.optimizer = optimizer_of_tree(known, path.name)
    return draft.finish(
        path,
        NAME,
        complete=complete(path),
        trainer=NAME,
        step=step_of_tree(known),
        epoch=epoch_of_tree(known),
        updates_done=updates_of(known, draft.optimizer),
        settings=settings_of_tree(known),
        saved_as_trained=True,
    )


def _stat_meta(path: Path) -> tuple[Member, ...]:
    try:
        return (stat_member(path, META, "state"),)
    except InputError:
        return ()
