"""How long a whole `sentinel scan` takes, next to reading the same bytes with `cat`.

`python benchmarks/scan.py [--mib 1024] [--pairs 5]` writes one file of random weights a dtype,
then runs both commands in turn and prints the median of the paired ratios. The file is warm in
the page cache, so this is the cost of the arithmetic and of starting up.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MIB = 1024 * 1024
TENSORS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    print("| dtype | MiB | scan, s | GB/s | scan / cat |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as place:
        for name in ("bfloat16", "float16", "float32"):
            path = Path(place) / f"{name}.safetensors"
            _write(path, name, options.mib)
            print(_row(name, path, options.pairs), flush=True)
            path.unlink()


def _write(path: Path, name: str, mib: int) -> None:
    generator = np.random.default_rng(0)
    count = mib * MIB // TENSORS // (4 if name == "float32" else 2)
    tensors = {}
    for index in range(TENSORS):
        values = generator.standard_normal(count, dtype=np.float32) * 0.02
        # NumPy has no bfloat16: its bits are the upper half of a float32's.
        tensors[f"weight.{index}"] = (
            (values.view(np.uint32) >> 16).astype(np.uint16)
            if name == "bfloat16"
            else values.astype(name)
        )
    save_file(tensors, path)
    if name == "bfloat16":
        data = path.read_bytes()
        header = int.from_bytes(data[:8], "little")
        text = data[8 : 8 + header].replace(b'"U16"', b'"BF16"')
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + header :])


def _row(name: str, path: Path, pairs: int) -> str:
    scan = [sys.executable, "-m", "sentinel", "scan", str(path), "--jobs", "1"]
    cat = ["cat", str(path)]
    times = [(_seconds(scan), _seconds(cat)) for _ in range(pairs + 1)][1:]
    median = statistics.median(taken for taken, _ in times)
    ratio = statistics.median(taken / read for taken, read in times)
    size = path.stat().st_size
    return f"| {name} | {size // MIB} | {median:.2f} | {size / median / 1e9:.2f} | {ratio:.1f} |"


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
