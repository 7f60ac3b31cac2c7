"""Make several starts of the trainer in one process of a launcher, one command a line.

`starts.py PACKAGE COMMANDS RESULTS`: COMMANDS holds a JSON list of argument lists; each process
writes its exit codes into RESULTS under its rank. A list that begins with "stage" fills a
checkpoint in which the process named next fails.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def fail(when):
    if when:
        raise OSError(5, "the disk is gone")


def stage(package, output_dir, failing):
    """Return what a shared checkpoint's filling ends with in this process."""
    processes = importlib.import_module(f"{package}.processes")
    me = processes.from_environment()

    def finish(directory):
        (directory / "last").write_text("1")
        fail(failing == "finish")

    try:
        with processes.staged_together(me, Path(output_dir), 9, finish) as directory:
            (directory / f"of-{me.rank}").write_text("1")
            fail(str(me.rank) == failing)
    except (OSError, ChildProcessError) as error:
        return type(error).__name__
    return "whole"


def main():
    package, commands, results = sys.argv[1:]
    call = importlib.import_module(f"{package}.main").main
    codes = [
        stage(package, *words[1:]) if words[0] == "stage" else call(words)
        for words in json.loads(Path(commands).read_text())
    ]
    (Path(results) / f"{os.environ['RANK']}.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
