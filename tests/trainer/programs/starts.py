# ruff: noqa: PLC0415 - accelerate is loaded only where it is needed
"""Make several starts of the trainer in one process of a launcher, one command a line.

`starts.py PACKAGE COMMANDS RESULTS`: COMMANDS holds a JSON list of argument lists; each process
writes its exit codes into RESULTS under its rank. A list that begins with "stage" fills a
checkpoint in which the process named next fails; one that begins with "fsdp2" is a start after
accelerate was made to believe that its processes have accelerators.
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


def shard_on_cpu(package):
    """Let accelerate shard on the processor: it asks only what kind of processes there are.

    What shards is torch, which does so on any device.
    """
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    session = importlib.import_module(f"{package}.session")
    arguments = session.training_arguments

    def patched(*args, **kwargs):
        result = arguments(*args, **kwargs)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return result

    session.training_arguments = patched
    session.check_engine = lambda *_: None


def run(package, words):
    if words[0] == "stage":
        return stage(package, *words[1:])
    if words[0] == "fsdp2":
        shard_on_cpu(package)
        words = [*words[1:], "--set", "parallel.engine=fsdp2"]
    return importlib.import_module(f"{package}.main").main(words)


def main():
    package, commands, results = sys.argv[1:]
    codes = [run(package, words) for words in json.loads(Path(commands).read_text())]
    (Path(results) / f"{os.environ['RANK']}.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main()
