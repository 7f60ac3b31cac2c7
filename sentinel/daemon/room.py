"""How much room the next checkpoint of a running training finds."""

from __future__ import annotations

import time

from sentinel.checkpoint import Checkpoint
from sentinel.machine.limits import disk_at

_RECENT_NS = 600_000_000_000
"""What was written longer ago than ten minutes says nothing of a training that goes on."""


def room_for_next(checkpoint: Checkpoint) -> int | None:
    """Return the bytes that are free beside a checkpoint just written, None for an old one."""
    newest_ns = max((member.mtime_ns for member in checkpoint.members), default=0)
    if time.time_ns() - newest_ns > _RECENT_NS:
        return None
    disk = disk_at(checkpoint.path.parent)
    return None if disk is None else disk.free_bytes
