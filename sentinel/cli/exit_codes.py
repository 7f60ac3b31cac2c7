"""The exit codes of every command but `run`, whose own are in `sentinel.daemon.supervise`.

A stable face: scripts, schedulers and CI jobs are built on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

GOOD = 0
FOUND = 1
UNREADABLE = 2
BUG = 3
INTERRUPTED = 130
CLOSED = 141
"""What a shell reports for a program that SIGPIPE ended: 128 + 13."""

MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        GOOD: "nothing at or above `--fail-on` was found",
        FOUND: "something at or above `--fail-on` was found (this wins over 2)",
        UNREADABLE: "something could not be read, or the call was wrong",
        BUG: "a bug in sentinel",
        INTERRUPTED: "interrupted (Ctrl-C)",
        CLOSED: "whoever read the output went away (a verdict's own code is kept)",
    }
)
