"""Whether zeros must be seen twice before a verdict, and whether time alone proves them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel.checkpoint import Checkpoint
    from sentinel.flow import Inspected, Judgement

_OLD_NS = 60_000_000_000


def wants_second_reading(
    first: Inspected | None, judgement: Judgement, inspected: Inspected
) -> bool:
    """Tell whether zeros must be seen twice.

    Versions 0.8.0-rc of safetensors laid out a file of zeros in full length before they wrote
    into it, so without a completion mark one reading of zeros proves nothing.
    """
    if judgement.checkpoint.complete or not judgement.unconfirmed:
        return False
    return first is None or _digests(first) != _digests(inspected)


def is_old(checkpoint: Checkpoint) -> bool:
    """Tell whether nobody has written here for long enough not to be in the middle of it."""
    newest_ns = max((member.mtime_ns for member in checkpoint.members), default=0)
    return time.time_ns() - newest_ns > _OLD_NS


def _digests(inspected: Inspected) -> list[object]:
    return inspected.measured.tensors.column("digest").to_pylist() if inspected.measured else []
