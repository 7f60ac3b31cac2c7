"""Directories inside a checkpoint that hold its shards: accelerate's under FSDP, DeepSpeed's.

Sources: `save_fsdp_model` and `save_fsdp_optimizer` in src/accelerate/utils/fsdp_utils.py and
`save_state` in accelerator.py of https://github.com/huggingface/accelerate; Transformers' Trainer
calls them too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, MissingMemberError
from sentinel.formats.deepspeed import read_deepspeed, stat_deepspeed
from sentinel.formats.deepspeed_names import LATEST, latest_tag, tag_in
from sentinel.formats.distributed import read_distributed, stat_distributed
from sentinel.formats.files import stat_member

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member, Part
    from sentinel.formats.draft import Draft
    from sentinel.formats.settings import Setting

MODEL = "pytorch_model_fsdp_0"
OPTIMIZER = "optimizer_0"

_NAME = re.compile(r"(pytorch_model_fsdp|optimizer)_\d{1,4}")


def is_nested(name: str) -> bool:
    """Tell whether a directory of this name is a part of the checkpoint it lies in."""
    return _NAME.fullmatch(name) is not None


def has_nested_weights(root: Path, directories: Collection[str]) -> bool:
    """Tell whether a checkpoint's weights lie in a directory of shards."""
    return MODEL in directories or tag_in(root, directories) is not None


def stat_nested(root: Path, directories: Collection[str]) -> tuple[Member, ...]:
    """Look at the files of every directory of shards, and at the one that names DeepSpeed's."""
    found = [
        member
        for name in sorted(filter(is_nested, directories))
        for member in stat_distributed(root, name, _part_of(name))
    ]
    tag = tag_in(root, directories)
    if tag is not None:
        found += stat_deepspeed(root, tag)
    return (*found, *stat_latest(root))


def stat_latest(root: Path) -> tuple[Member, ...]:
    """Look at the file that names DeepSpeed's last save; nothing where there is none."""
    try:
        return (stat_member(root, LATEST, "state"),) if latest_tag(root) else ()
    except InputError:
        return ()


def read_nested(draft: Draft, directories: Collection[str]) -> Mapping[str, Setting]:
    """Read the first model and the first optimizer, note the files of the others.

    Returns the settings that DeepSpeed's files tell. Weights that were read from a file beside
    the shards are not read again.
    """
    settings: Mapping[str, Setting] = {}
    for name in (MODEL, OPTIMIZER):
        if name in directories:
            read_distributed(draft, name, _part_of(name))
    tag = tag_in(draft.root, directories)
    if tag is not None:
        settings = read_deepspeed(draft, tag, with_weights=not draft.tensors)
    named = latest_tag(draft.root)
    if named is not None and named not in directories:
        draft.fault(missing_tag(draft.root, named), "optimizer", LATEST)
    for member in stat_nested(draft.root, directories):
        if member.path not in draft.members:
            draft.add_member(member.path, member.part)
    return settings


def missing_tag(root: Path, tag: str) -> MissingMemberError:
    """Return what is wrong where ``latest`` names a save that is not there."""
    return MissingMemberError(
        f"file '{path_text(root / LATEST)}'",
        fact=f"names the save '{path_text(tag)}', which is not there",
        todo="copy it again, or write the name of one that is there into the file",
    )


def _part_of(name: str) -> Part:
    """Return the part a directory of accelerate's belongs to; second models are only noted."""
    parts: dict[str, Part] = {MODEL: "weights", OPTIMIZER: "optimizer"}
    return parts.get(name, "state")
