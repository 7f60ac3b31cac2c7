"""Sentinel's speed as ratios of paired runs: `python benchmarks/speed/run.py --help`.

Prints a line when it is known, and writes all of them, with the machine and the versions, to
`benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import judging
import kernel
import torch_ways
import whole_commands
from rows import HEAD, Row

RESULTS = Path(__file__).parents[1] / "RESULTS.md"
REASONS = Path(__file__).with_name("reasons.md")
VERSIONS = ("numpy", "pyarrow", "duckdb", "torch", "xxhash", "pydantic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="of values in memory")
    parser.add_argument("--file-mib", type=int, default=8192, help="of the file for `cat`")
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--place", type=Path, help="a directory for the files [default: /tmp]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    print(HEAD)
    lines = []
    for row in _rows(options):
        lines.append(row.text())
        print(lines[-1], flush=True)
    options.results.write_text(_page(options, lines), encoding="utf-8")


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        yield from kernel.rows(options.mib, options.rounds)
        yield from torch_ways.rows(max(1, options.mib // 16), options.rounds)
        yield from judging.rows(Path(place), options.rounds, options.checkpoints)
        yield from whole_commands.rows(Path(place), options.file_mib, options.rounds)


def _page(options: argparse.Namespace, lines: list[str]) -> str:
    versions = ", ".join(f"{name} {version}" for name in VERSIONS if (version := _version(name)))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"""# Speed

Ratios of paired runs: both ways in turn, {options.rounds} times after one to warm up, medians.
Above 1 the other took longer. On a machine that does other things as well the processor's time
is the one to look at; it is also what the seconds are.

{_processor()}, {len(os.sched_getaffinity(0))} cores allowed, load {load} (1, 5 and 15 minutes);
{platform.system()} {platform.release()}, Python {platform.python_version()}, {versions}.

{HEAD}
{chr(10).join(lines)}

{REASONS.read_text(encoding="utf-8").strip()}

Again, after `make test` has installed the wheel:

    make bench
    .venv/bin/python benchmarks/speed/run.py --mib {options.mib} --file-mib {options.file_mib} \\
        --checkpoints {options.checkpoints} --rounds {options.rounds}
"""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
