"""What `sentinel watch` takes from a training beside it: `python benchmarks/daemon/run.py --help`.

Writes `benchmarks/results/daemon.md`. Linux only.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from adapters import Adapter
from watching import Watch, watching

RESULTS = Path(__file__).parents[1] / "results" / "daemon.md"
REASONS = Path(__file__).with_name("reasons.md")
VERSIONS = ("numpy", "pyarrow", "duckdb", "watchdog")
LORA_BYTES = 100_000_000
MARK, CLOSE = "Transformers' Trainer, its mark last", "one file, closed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=30, help="saved of each layout")
    parser.add_argument("--gib", type=float, default=4.0, help="of the large checkpoint")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=100, help="of each run")
    parser.add_argument("--rounds", type=int, default=6, help="of the training")
    parser.add_argument("--seconds", type=float, default=60.0, help="of one training")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two saves")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--place", type=Path, help="a directory for the files [default: /tmp]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    lines = list(_head())
    with tempfile.TemporaryDirectory(dir=options.place) as name:
        for part in options.parts:
            for line in PARTS[part](Path(name), options):
                print(line, flush=True)
                lines.append(line)
    text = "\n".join(lines) + "\n" + REASONS.read_text(encoding="utf-8")
    options.results.write_text(text, encoding="utf-8")


def _head() -> Iterator[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in VERSIONS)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    yield "# The daemon beside a training\n"
    yield (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores allowed, load {load} at the "
        "start (1, 5 and 15 minutes: above the cores, what the wall clock says is the others' "
        f"doing too); {platform.system()}, Python {platform.python_version()}, {versions}.\n"
    )
    yield f"    make bench-daemon DAEMON_BENCH='{' '.join(sys.argv[1:])}'\n"


def _latency(place: Path, options: argparse.Namespace) -> Iterator[str]:
    yield "## From a LoRA's last byte to its rows in the log\n"
    yield "100 MB in 500 tensors; the first one's time, and of the others:\n"
    yield "| layout | first | median | p99 | processor, a checkpoint |"
    yield "|---|---|---|---|---|"
    adapter = Adapter(LORA_BYTES)
    ways: dict[str, Callable[[Watch, int], int]] = {
        MARK: lambda watch, n: adapter.write_checkpoint(watch.out / f"checkpoint-{n}", n),
        CLOSE: lambda watch, n: adapter.write_file(watch.out / f"lora-{n:06}.safetensors"),
    }
    for number, (name, write) in enumerate(ways.items()):
        with watching(place, f"latency-{number}") as watch:
            before_s, took = watch.cpu_s(), []
            # Fewer than are merged, so that the newest part is the newest checkpoint's.
            for at in range(1, min(15, options.adapters) + 1):
                written = write(watch, at)
                took.append((watch.rows_at_ns(at) - written) / 1e6)
            watch.at_rest()
            cpu_ms = 1000 * (watch.cpu_s() - before_s) / len(took)
        first, *rest = took
        p99 = statistics.quantiles(rest, n=100, method="inclusive")[98]
        yield (
            f"| {name} | {first:.0f} ms | {statistics.median(rest):.0f} ms | {p99:.0f} ms "
            f"| {cpu_ms:.0f} ms |"
        )


def _memory(place: Path, options: argparse.Namespace) -> Iterator[str]:
    yield "\n## Memory\n"
    yield "The daemon and its reading process; in brackets without mapped files (libraries).\n"
    yield "| when | resident |"
    yield "|---|---|"
    with watching(place, "memory") as watch:
        yield f"| before the first checkpoint | {_both(watch.memory())} |"
        Adapter(LORA_BYTES).write_checkpoint(watch.out / "checkpoint-1", 1)
        watch.rows_at_ns(1)
        watch.at_rest()
        yield f"| idle after a LoRA | {_both(watch.memory())} |"
        most, stop = [watch.memory()], threading.Event()

        def look() -> None:
            while not stop.wait(0.02):
                most.append(watch.memory())

        looking = threading.Thread(target=look)
        large = Adapter(int(options.gib * 2**30), modules=100)
        looking.start()
        large.write_checkpoint(watch.out / "checkpoint-2", 2)
        watch.rows_at_ns(2)
        stop.set()
        looking.join()
        peak = (max(one[0] for one in most), max(one[1] for one in most))
        yield f"| at most, scanning {options.gib:g} GiB | {_both(peak)} |"


def _idle(place: Path, options: argparse.Namespace) -> Iterator[str]:
    yield "\n## Watching what does not change\n"
    words = [str(place / "many"), str(options.runs), str(options.checkpoints)]
    script = Path(__file__).with_name("many.py")
    done = subprocess.run(
        [sys.executable, str(script), *words], check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout)
    yield (
        f"{options.runs:,} runs of {options.checkpoints} checkpoints, all judged: "
        f"{100 * told['share']:.2f} % of a core. Waiting for events takes "
        f"{100 * told['waiting']:.3f} %; looking at everything {told['full_s']:.1f} s of "
        f"processor time, so it is done every {told['every_s']:.0f} s. The watches and what is "
        f"remembered take {_mib(told['bytes'])}."
    )
    for note in told["notes"]:
        yield f"It said: {note}"


def _beside(place: Path, options: argparse.Namespace) -> Iterator[str]:
    yield "\n## A training's steps\n"
    alone, watched = [], []
    for at in range(options.rounds):
        for kind, found in (("alone", alone), ("watched", watched))[:: 1 if at % 2 else -1]:
            if kind == "alone":
                (place / f"alone-{at}").mkdir()
                found.append(_train(place / f"alone-{at}", options))
            else:
                with watching(place, f"beside-{at}") as watch:
                    cores = sorted(os.sched_getaffinity(0))[1:] or [0]
                    for process in (watch.process, *watch.process.children()):
                        process.cpu_affinity(cores)
                    found.append(_train(watch.out, options))
    yield (
        f"One core trains for {options.seconds:g} s and saves a LoRA of 100 MB every "
        f"{options.every:g} s, the daemon has the others; {options.rounds} pairs, which of the "
        "two is first in turn. Watched in times of alone, mean and its 95 % interval:\n"
    )
    for name, words in (("wall", "steps a second"), ("cpu", "steps a second of processor time")):
        ratios = [other[name] / one[name] for one, other in zip(alone, watched, strict=True)]
        mean = statistics.mean(ratios)
        # The normal's 1.96 would be too narrow for so few pairs; 2.6 is Student's for five.
        half = 2.6 * statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
        yield f"- {words}: {mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"


def _train(out: Path, options: argparse.Namespace) -> dict[str, float]:
    words = [str(Path(__file__).with_name("beside.py")), str(out)]
    command = [sys.executable, *words, str(options.seconds), str(options.every)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    time.sleep(1.0)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _both(sizes: tuple[int, int]) -> str:
    return f"{_mib(sizes[0])} ({_mib(sizes[1])})"


def _mib(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"


PARTS = {"latency": _latency, "memory": _memory, "idle": _idle, "steps": _beside}


if __name__ == "__main__":
    main()
