"""What only Linux can say and do about processes."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
_START_TICKS_AFTER_NAME = 19  # field 22 of proc_pid_stat(5), counted after the name in brackets


def become_subreaper() -> bool:
    """Make orphans among this process's descendants its own children; tell whether it worked.

    Without it they go to init, and a trainer's daemon that forked twice is nobody's child.
    Elsewhere than on Linux nothing happens.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def started_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, None when there is none.

    Unlike a time of day it does not move when the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name may hold spaces and brackets itself, so count from its last bracket.
    return int(stat[stat.rindex(b")") + 2 :].split()[_START_TICKS_AFTER_NAME])
