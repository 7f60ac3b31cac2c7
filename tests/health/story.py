"""A small run written into a health log, whole or cut short by SIGKILL at a chosen step.

As a script: `story.py ROOT kill STEPS` starts a process for each step N below STEPS that
appends a checkpoint to the log ROOT/N and dies at that step, and prints how each ended;
`story.py ROOT kill-merge STEPS` does the same with a process that merges;
`story.py ROOT loop FIRST COUNT` appends many, `story.py ROOT again COUNT` those of the loop once
more with another verdict, and `story.py ROOT merge` merges what is due over and over until its
standard input ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from sentinel.health.compaction import compact
from sentinel.health.identity import checkpoint_id
from sentinel.health.log import HealthLog, Writer, staging_writer
from sentinel.health.rows import CheckpointRow, EventRow, finding_events
from sentinel.verdict import Finding, Verdict

RUN = "0d9f8c1e-4f0b-4b3a-9a51-0a7f0a6f2f11"
OTHER_RUN = "7c7e6f6a-2d0e-4d0c-8d57-3c1f0b9a8e22"
BEGIN = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
UP, DOWN = "q_proj.lora_B.weight", "q_proj.lora_A.weight"


def row(step: int, *, attempt: int = 1, seq: int | None = None, **changes: object) -> CheckpointRow:
    path = f"checkpoint-{step}"
    number = step if seq is None else seq
    name = checkpoint_id(run_id=RUN, attempt=attempt, path=path, members=(), digests={})
    judged_at = BEGIN + timedelta(minutes=number)
    made = CheckpointRow(
        run_id=RUN,
        attempt=attempt,
        seq=number,
        checkpoint_id=name,
        parent=None,
        path=f"/runs/a/{path}",
        layout="peft",
        trainer="sentinel-train",
        step=step,
        epoch=step / 100,
        updates_done=step,
        size_bytes=4096,
        tensor_count=2,
        dtypes=("F16",),
        verdict="healthy",
        usable=("weights",),
        reason=None,
        seen_at=judged_at - timedelta(seconds=3),
        settled_at=judged_at - timedelta(seconds=1),
        judged_at=judged_at,
        measure_s=0.25,
        settings={"precision.adapter": "fp16", "metrics.loss": 2.5},
    )
    return replace(made, **changes)


def tensors(step: int, *, zeros: int = 0, nans: int = 0) -> pa.Table:
    return pa.table(
        {
            "tensor": [UP, DOWN],
            "module": ["q_proj", "q_proj"],
            "role": ["lora_up", "lora_down"],
            "family": ["lora", "lora"],
            "dtype": ["F16", "F16"],
            "shape": [[8, 4], [4, 8]],
            "numel": [32, 32],
            "nan_count": [nans, 0],
            "zero_count": [zeros, 0],
            "inf_count": [0, 0],
            "l2": [0.5 + step, 1.5],
        }
    )


DEAD = Finding("dead-lora-up", "critical", "all up matrices are zero", tensors=(UP,))


def findings(of: CheckpointRow) -> tuple[EventRow, ...]:
    verdict = Verdict("faulty", (), (DEAD, replace(DEAD, rule="nan-values")))
    return finding_events(
        verdict,
        run_id=of.run_id,
        attempt=of.attempt,
        checkpoint_id=of.checkpoint_id,
        at=of.judged_at,
    )


def plan(minutes: int = 21, **changes: object) -> EventRow:
    made = EventRow(
        event_id=f"plan-{minutes}",
        run_id=RUN,
        attempt=1,
        kind="plan",
        message="start again in fp32",
        at=BEGIN + timedelta(minutes=minutes),
        remedy={"resume": {"precision": "fp32"}},
        detail={"precision": "fp32"},
    )
    return replace(made, **changes)


PARTS = 3 + 3 + 2
"""What `write_story` leaves of checkpoints, tensors and events."""


def write_story(root: Path) -> HealthLog:
    """Write a run that dies, is repaired and goes on: something for every query."""
    log = HealthLog(root)
    log.append(row(20), tensors(20))
    bad = row(40, verdict="faulty", usable=(), reason=DEAD.message)
    log.append(bad, tensors(40, zeros=32, nans=1), findings(bad))
    log.append_event(plan())
    again = row(40, attempt=2, seq=41, parent=row(20).checkpoint_id)
    log.append(again, tensors(41))
    return log


class Step:
    """Counts the steps of writing and dies at one of them, as a power cut would."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


class HalfWritten:
    """A file whose first write is cut in two by a step."""

    def __init__(self, file: BinaryIO, step: Step) -> None:
        self._file = file
        self._step = step

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._step()
        self._file.write(data[half:])
        return len(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


STEPS_A_PART = 4
"""Before it, once inside the bytes, all bytes but no name, under its name."""


def dying_writer(root: Path, step: Step) -> Writer:
    write = staging_writer(root)
    inside_once: set[Path] = set()

    @contextmanager
    def open_part(path: Path) -> Iterator[BinaryIO]:
        step()
        with write(path) as file:

            def first_time() -> None:
                if path not in inside_once:
                    inside_once.add(path)
                    step()

            yield HalfWritten(file, first_time)
            step()
        step()

    return open_part


def append_and_die(root: Path, step: Step) -> None:
    log = HealthLog(root, writer=dying_writer(root, step))
    log.append(row(60), tensors(60), findings(row(60)))


def merge_and_die(root: Path, step: Step) -> None:
    """Merge everything; before each removal of a merged part is a step too."""
    unlink = Path.unlink

    def dying_unlink(path: Path, **how: bool) -> None:
        if path.suffix == ".parquet":
            step()
        unlink(path, **how)

    Path.unlink = dying_unlink
    compact(HealthLog(root, writer=dying_writer(root, step)), RUN, everything=True)


def die_at(root: Path, step: int, do: Callable[[Path, Step], None]) -> int:
    """Do it in a child process that is killed at a step; return how it ended."""
    child = os.fork()
    if child == 0:
        do(root, Step(step))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path, task: str, *numbers: str) -> None:
    log = HealthLog(root)
    match task, *map(int, numbers):
        case "kill" | "kill-merge", steps:
            do = append_and_die if task == "kill" else merge_and_die
            # Forking spares an import of Arrow a step; nothing has started a thread yet.
            codes = (die_at(root / str(step), step, do) for step in range(steps))
            sys.stdout.write(" ".join(map(str, codes)))
        case "loop", first, count:
            for step in range(first, first + count):
                log.append(row(step), tensors(step), findings(row(step)))
        case "again", count:
            later = BEGIN + timedelta(days=1)
            for step in range(100, 100 + count):
                log.append(row(step, verdict="suspect", judged_at=later), tensors(step))
        case ("merge",):
            while not select.select([sys.stdin], [], [], 0)[0]:
                compact(log, RUN, fanout=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
