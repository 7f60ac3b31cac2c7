"""A training on one core, with and without the daemon on the other.

`python beside.py OUT SECONDS EVERY_S` trains on the first core and prints a line of JSON: steps a
second of the wall clock and of its own processor time. A step is a matrix product and a pass over
memory; every so many seconds a LoRA of 100 MB is saved.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from adapters import Adapter

_SIZE = 512
_WEIGHTS = 4_000_000


def main() -> None:
    out, seconds, every_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    adapter = Adapter(100_000_000)
    random = np.random.default_rng(0)
    left, weights = random.normal(size=(_SIZE, _SIZE)), random.normal(size=_WEIGHTS)
    wall, cpu = time.perf_counter(), time.process_time()
    steps, saved = 0, 0
    while (passed := time.perf_counter() - wall) < seconds:
        left = left @ left
        left /= np.abs(left).max()
        weights *= 0.999
        steps += 1
        if passed > every_s * (saved + 1):
            saved += 1
            adapter.write_checkpoint(out / f"checkpoint-{saved}", saved)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": steps / wall_s, "cpu": steps / cpu_s, "saved": saved}))


if __name__ == "__main__":
    main()
