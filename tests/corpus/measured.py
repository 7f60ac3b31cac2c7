"""Run a command and write what it took: `python measured.py FIGURES.json COMMAND...`.

A program of its own, because Linux counts to a process's peak memory what the process had that
started it, and whoever writes the corpus has all training libraries in memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Write wall and processor time in seconds and the peak in bytes; return the exit code."""
    figures, *command = sys.argv[1:]
    began = time.perf_counter()
    child = subprocess.Popen(command)
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    found = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    Path(figures).write_text(json.dumps(found), encoding="utf-8")
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
