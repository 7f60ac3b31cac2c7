"""How far a process gives way to others: for the processor, and for the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

IoClass = Literal["same", "lowest", "idle"]
"""`same` as the process that starts it, the `lowest` of the ordinary, or only when the disk is
`idle` (ionice(1): best effort 7, and the idle class)."""


@dataclass(frozen=True, slots=True)
class Priority:
    """``nice`` steps below the process that starts it, and a class for its reading and writing."""

    nice: int = 0
    io: IoClass = "same"

    def take(self) -> None:
        """Let the calling process give way so, as far as the system knows how."""
        if self.nice and hasattr(os, "nice"):
            os.nice(self.nice)
        if self.io != "same":
            _give_way_at_the_disk(self.io)


def _give_way_at_the_disk(io: IoClass) -> None:
    import psutil  # noqa: PLC0415 - not needed where nothing gives way

    if not psutil.LINUX:
        return
    try:
        if io == "idle":
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
        else:
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)
    except (psutil.Error, OSError):
        return  # a container may forbid it
