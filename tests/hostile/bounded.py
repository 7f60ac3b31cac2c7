"""Reads hostile files under a limit on memory and processor time, and tells as JSON.

Run as ``python bounded.py small|absurd|large DIRECTORY [BYTES]``. The limit is what the process
has after it has read a healthy file, and a headroom.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from bombs import absurd_adapters, metadata_of_chunks, small_files, sparse

from sentinel.errors import InputError
from sentinel.flow import inspect
from sentinel.formats.base import read_base
from sentinel.formats.opening import discover, open_checkpoint
from sentinel.stats.table import checkpoint_table, faults_table

MEGABYTE = 2**20
SMALL_HEADROOM = 96 * MEGABYTE
ABSURD_HEADROOM = 320 * MEGABYTE
CPU_S = 200


def limit(headroom_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + headroom_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))


def warm_up(root: Path) -> None:
    """Have everything imported and every buffer made that reading needs."""
    small = {
        "lora_unet_q.lora_up.weight": ("F32", [4, 2], 32),
        "lora_unet_q.lora_down.weight": ("F32", [2, 4], 32),
    }
    look(sparse(root / "warm.safetensors", small))


def look(path: Path) -> int:
    checkpoint = inspect(path).checkpoint
    checkpoint_table(checkpoint)
    faults_table(checkpoint)
    return len(checkpoint.faults)


def small(root: Path) -> dict[str, int]:
    """Faults by file; each lies in a directory of its own, where a layout may find it."""
    limit(SMALL_HEADROOM)
    found = {}
    for number, (what, name, raw) in enumerate(small_files()):
        place = root / str(number) / "checkpoint-5"
        place.mkdir(parents=True)
        (place / name).write_bytes(raw)
        found[what] = look(place / name if name != "sentinel_manifest.json" else place)
        look(place)
        list(discover(place))
        try:
            read_base(place / name)
        except InputError:
            pass
        except Exception as error:  # noqa: BLE001 - told, for the test to judge
            found[what] = -1 if type(error).__name__ != "ConfigError" else found[what]
    (root / "chunks").mkdir()
    (root / "chunks" / ".metadata").write_bytes(metadata_of_chunks())
    (root / "chunks" / "__0_0.distcp").write_bytes(b"")
    found["distributed: a laugh as a file"] = look(root / "chunks")
    return found


def absurd(root: Path) -> dict[str, int]:
    limit(ABSURD_HEADROOM)
    return {path.name: look(path) for path in absurd_adapters(root)}


def large(root: Path, size_bytes: int) -> dict[str, int]:
    """Kilobytes of memory that measuring one tensor of a given size takes more than before."""
    path = sparse(root / "large.safetensors", {"w": ("BF16", [size_bytes // 2], size_bytes)})
    opened = open_checkpoint(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if size_bytes <= 2**30:
        look(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"tensors": len(opened.tensors), "grown_kb": grown}


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    root = Path(where)
    warm_up(root)
    told = {"small": small, "absurd": absurd, "large": large}[what](root, *map(int, rest))
    print(json.dumps(told))
