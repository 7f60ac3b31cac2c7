"""The whole of a repair on files in one call, for whoever does not ask first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.repairs.files.planning import NO_RULES, prepare
from sentinel.repairs.files.writing import write

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint
    from sentinel.receipt import CastTo, OptimizerWish, Receipt
    from sentinel.repairs.files.keys import KeyRules


def prepare_copy(
    checkpoint: Checkpoint,
    to: Path | None = None,
    *,
    cast: CastTo | None = None,
    optimizer: OptimizerWish = "keep",
    rename: KeyRules = NO_RULES,
    allow_loss: bool = False,
) -> Receipt:
    """Write a copy of a checkpoint and return its receipt; raises as `prepare` and `write` do."""
    prepared = prepare(
        checkpoint, to, cast=cast, optimizer=optimizer, rename=rename, allow_loss=allow_loss
    )
    return write(prepared)
