"""Directories inside a checkpoint that hold its shards, as accelerate names them under FSDP.

Source: `save_fsdp_model` and `save_fsdp_optimizer` in src/accelerate/utils/fsdp_utils.py of
https://github.com/huggingface/accelerate; Transformers' Trainer calls them too.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from sentinel.formats.distributed import read_distributed, stat_distributed

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Member, Part
    from sentinel.formats.draft import Draft

MODEL = "pytorch_model_fsdp_0"
OPTIMIZER = "optimizer_0"

_NAME = re.compile(r"(pytorch_model_fsdp|optimizer)_\d{1,4}")


def is_nested(name: str) -> bool:
    """Tell whether a directory of this name is a part of the checkpoint it lies in."""
    return _NAME.fullmatch(name) is not None


def part_of_nested(name: str) -> Part:
    """Return the part a nested directory belongs to; second models are only noted."""
    parts: dict[str, Part] = {MODEL: "weights", OPTIMIZER: "optimizer"}
    return parts.get(name, "state")


def stat_nested(path: Path, directories: Collection[str]) -> tuple[Member, ...]:
    """Look at the files of every nested directory."""
    return tuple(
        member
        for name in sorted(filter(is_nested, directories))
        for member in stat_distributed(path, name, part_of_nested(name))
    )


def read_nested(draft: Draft, directories: Collection[str]) -> None:
    """Read the first model and the first optimizer, note the files of the others."""
    for name in (MODEL, OPTIMIZER):
        if name in directories:
            read_distributed(draft, name, part_of_nested(name))
    for member in stat_nested(draft.root, directories):
        if member.path not in draft.members:
            draft.add_member(member.path, member.part)
