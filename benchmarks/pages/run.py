"""How long the pages of `sentinel ui` take over a long run: `python benchmarks/pages/run.py`.

Writes a health log by the real writer, serves it by the real command, and asks each kind of page:
the first time (nothing is kept) and again (the page is kept). Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from sentinel.health.compaction import compact
from sentinel.health.identity import checkpoint_id
from sentinel.health.log import HealthLog
from sentinel.health.rows import CheckpointRow, finding_events
from sentinel.verdict import Finding, Verdict

RUN = "0d9f8c1e-4f0b-4b3a-9a51-0a7f0a6f2f11"
BEGIN = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
MERGE_EVERY = 2000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoints", type=int, default=20_000)
    parser.add_argument("--tensors", type=int, default=64)
    parser.add_argument("--log", type=Path, help="keep the log there, or use the one that is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log = given.log or Path(scratch) / "health"
        if not log.exists():
            write(log, given.checkpoints, given.tensors)
        measure(log, given.checkpoints, given.tensors)


def write(root: Path, checkpoints: int, tensors: int) -> None:
    """A run of two attempts whose every 997th checkpoint is faulty."""
    log, draw = HealthLog(root), np.random.default_rng(0)
    modules = [f"model.layers.{n // 8}.m{n % 8}" for n in range(tensors // 2)]
    names = [f"{module}.lora_{side}.weight" for module in modules for side in "AB"]
    begun = time.monotonic()
    for number in range(checkpoints):
        attempt = 1 if number < checkpoints // 3 else 2
        name = checkpoint_id(
            run_id=RUN, attempt=attempt, path=f"checkpoint-{number}", members=(), digests={}
        )
        is_bad = number % 997 == 996
        at = BEGIN + timedelta(seconds=30 * number)
        log.append(
            row(number, attempt, name, at, is_bad=is_bad, tensors=tensors),
            table(names, modules, draw),
            events(attempt, name, at) if is_bad else (),
        )
        if number % MERGE_EVERY == MERGE_EVERY - 1:
            compact(log, RUN)
            print(f"{number + 1} written in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def row(
    number: int, attempt: int, name: str, at: datetime, *, is_bad: bool, tensors: int
) -> CheckpointRow:
    step = 10 * (number + 1)
    steps = tuple(range(step - 9, step + 1))
    return CheckpointRow(
        run_id=RUN, attempt=attempt, seq=number, checkpoint_id=name, parent=None,
        path=f"/srv/training/cat/checkpoint-{step}", layout="peft", trainer="transformers",
        step=step, epoch=step / 1000, updates_done=step, size_bytes=4096 * tensors,
        tensor_count=tensors, dtypes=("BF16",), verdict="faulty" if is_bad else "healthy",
        usable=() if is_bad else ("weights", "optimizer"),
        reason="1 of 64 tensors holds NaN" if is_bad else None, seen_at=at, settled_at=at,
        judged_at=at, measure_s=0.2, settings={f"setting.{n}": n * 0.5 for n in range(60)},
        loss_steps=steps, losses=tuple(1.5 + 2 * math.exp(-one / 5e4) for one in steps),
    )  # fmt: skip


def events(attempt: int, name: str, at: datetime):
    finding = Finding(
        rule="nan-values", severity="critical", scope="content", safety="certain",
        message="1 of 64 tensors holds NaN", tensors=("model.layers.0.m0.lora_A.weight",),
        tensor_count=1, remedy={"resume": {"precision": "auto"}}, parts=("weights",),
    )  # fmt: skip
    verdict = Verdict("faulty", (finding,), (), ())
    return finding_events(verdict, run_id=RUN, attempt=attempt, checkpoint_id=name, at=at)


def table(names: list[str], modules: list[str], draw: np.random.Generator) -> pa.Table:
    count = len(names)
    norms = [value if n % 2 else None for n, value in enumerate(draw.random(count))]
    return pa.table(
        {
            "tensor": names, "module": [module for module in modules for _ in "AB"],
            "role": ["lora_down", "lora_up"] * (count // 2), "dtype": ["BF16"] * count,
            "shape": [[16, 1024]] * count, "numel": [16384] * count, "nan_count": [0] * count,
            "inf_count": [0] * count, "zero_count": [0] * count, "subnormal_count": [0] * count,
            "min": -draw.random(count), "max": draw.random(count), "abs_max": draw.random(count),
            "mean": draw.random(count) / 100, "l2": draw.random(count) * 4,
            "digest": [f"{value:032x}" for value in draw.integers(0, 2**63, count)],
            "unchanged": [False] * count, "effect_norm": pa.array(norms, pa.float64()),
            "base_norm": pa.array([9.0 if n % 2 else None for n in range(count)], pa.float64()),
        }
    )  # fmt: skip


def measure(log: Path, checkpoints: int, tensors: int) -> None:
    with serving(log) as (address, process):
        of_run = f"/runs/{RUN}"
        html = ask(address + of_run)[1]
        one = re.search(rf"{of_run}/checkpoints/[0-9a-f]{{32}}", html)
        assert one is not None
        pages = {
            "all runs": "/",
            "events": "/events?kind=finding",
            "a run": f"{of_run}?verdict=suspect",
            "its checkpoints, page 300": f"{of_run}?page=300",
            "its faulty checkpoints": f"{of_run}?verdict=faulty",
            "a checkpoint": one[0],
            "its tensors by norm": f"{one[0]}?sort=norm&q=lora_B",
            "rules": "/rules",
        }
        print(f"{checkpoints:,} checkpoints of {tensors} tensors in one run:\n")
        print("| page | first, s | again, s | kB |\n|---|---|---|---|")
        for name, place in pages.items():
            first, text = ask(address + place)
            again, _ = ask(address + place)
            print(f"| {name} | {first:.2f} | {again:.3f} | {len(text) / 1000:.0f} |")
        for name, place, part in (
            ("another page of checkpoints, in place", f"{of_run}?page=301", "checkpoints"),
            ("its tensors by size, in place", f"{one[0]}?sort=rms", "tensors"),
        ):
            first, text = ask(address + place, part)
            again, _ = ask(address + place, part)
            print(f"| {name} | {first:.2f} | {again:.3f} | {len(text) / 1000:.0f} |")
        print(f"\nPeak of the server's memory: {peak_mb(process):.0f} MB")


@contextmanager
def serving(log: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "sentinel", "ui", "--log", str(log), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"http://\S+", line)
        assert address is not None, line
        try:
            yield address[0].rstrip("/"), process
        finally:
            process.terminate()


def ask(address: str, part: str = "") -> tuple[float, str]:
    headers = {"Sentinel-Have": "", "Sentinel-Only": part} if part else {}
    begun = time.monotonic()
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        text = answer.read().decode()
    return time.monotonic() - begun, text


def peak_mb(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 1000 if found else math.nan
    return psutil.Process(process.pid).memory_info().rss / 1e6


if __name__ == "__main__":
    main()
