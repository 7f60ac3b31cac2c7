"""Whole commands in processes of their own: a large file against `cat`, a start against torch's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from files import write_lora, write_weights
from paired import command, compare
from rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

# -P: the sentinel that is installed, not the sources in the working directory.
SENTINEL = (sys.executable, "-P", "-m", "sentinel")


def rows(place: Path, mib: int, rounds: int) -> Iterator[Row]:
    path = place / "large.safetensors"
    write_weights(path, "bfloat16", mib)
    for jobs in ("1", "2"):
        scan = command([*SENTINEL, "scan", str(path), "--jobs", jobs])
        found = compare(scan, command(["cat", str(path)]), rounds=rounds)
        what = f"`sentinel scan` of {mib} MiB of bfloat16, warm, --jobs {jobs}, against `cat`"
        yield Row(what, found, "≥ 0.67 (wall)", f"{mib / 1024 / found.first.wall_s:.2f} GiB/s")
    path.unlink()
    lora = place / "lora.safetensors"
    write_lora(lora, modules=250, rank=12, width=4096)
    size_mb = lora.stat().st_size / 1e6
    torch = command([sys.executable, "-c", "import torch"])
    for words, goal in ((("scan", str(lora)), "≥ 3.3"), (("--help",), "")):
        cold = command([*SENTINEL, *words])
        found = compare(cold, torch, rounds=rounds)
        told = f"`sentinel {words[0]}`" + (f" of a {size_mb:.0f} MB LoRA" if goal else "")
        yield Row(f"{told}, a process, against `python -c 'import torch'`", found, goal)
