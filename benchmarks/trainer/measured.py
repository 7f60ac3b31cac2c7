"""One training in a process of its own, and what it took."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """What a training took, its first steps left out.

    ``step_s`` is the mean over all steps, their saves included; ``peak_bytes`` the most that
    torch had allocated on a GPU, or that the process held on a CPU.
    """

    tokens_per_s: float
    step_s: float
    peak_bytes: int
    losses: tuple[float, float]


def measure(
    command: Sequence[str], out: Path, *, warm: int, threads: int, on_gpu: bool
) -> Measured:
    """Run a trainer that writes ``out/metrics.jsonl``; its own output goes into a file.

    The process that calls this must be small: Linux counts its memory as the child's first peak.
    Raises RuntimeError with the last lines of that file when the trainer fails.
    """
    log = out.with_suffix(".log")
    with log.open("wb") as said:
        process = subprocess.Popen(
            list(command),
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"exit code {process.returncode} of {' '.join(command)}\n{tail}")
    text = (out / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    first, last = lines[warm - 1], lines[-1]
    took = last["time"] - first["time"]
    return Measured(
        tokens_per_s=(last["tokens"] - first["tokens"]) / took,
        step_s=took / (last["step"] - first["step"]),
        peak_bytes=last["memory_bytes"] if on_gpu else usage.ru_maxrss * 1024,
        losses=(lines[0]["loss"], last["loss"]),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratios of neighbours: their median and their range."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(ones: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return how often each of ``others`` goes into its neighbour of ``ones``."""
    found = [one / other for one, other in zip(ones, others, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))
