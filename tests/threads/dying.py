"""Writers that do not come to their end: a process of its own that is killed, or has no room."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest


def in_a_child(write: Callable[[], object], *, room_bytes: int | None = None) -> int:
    """Run what writes in a child process and return how it ended: minus the signal, or its code.

    No file may become larger than ``room_bytes``. A write beyond is an OSError, as on a full
    disk; a child that does not survive it ends with code 1. The child must not compute: threads
    of the parent are not in it.
    """
    if not hasattr(os, "fork"):
        pytest.skip("a writer is killed on POSIX systems only")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if room_bytes is not None:
                _limit(room_bytes)
            write()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def die(*_arguments: object, **_options: object) -> None:
    """What `kill -9` and the OOM killer do."""
    os.kill(os.getpid(), signal.SIGKILL)


def _limit(room_bytes: int) -> None:
    import resource  # noqa: PLC0415 - not on Windows

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))
