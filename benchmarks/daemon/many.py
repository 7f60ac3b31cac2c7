"""What it takes to watch very many checkpoints at which nothing happens.

`python many.py PLACE RUNS CHECKPOINTS` prints a line of JSON. All count as judged: what is taken
is the watching itself, the events' watches and the looking at everything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from sentinel.daemon.arrivals import RESCAN_S, RESCAN_SHARE, Arrivals, Arrived
from sentinel.daemon.candidates import Candidates, lying

_FILES = {
    "adapter_config.json": b'{"peft_type": "LORA", "r": 1}',
    "adapter_model.safetensors": b"\x08\0\0\0\0\0\0\0{}      ",
    "trainer_state.json": b'{"global_step": 1}',
}
_IDLE_S = 30.0


def main() -> None:
    place, runs, checkpoints = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for run in range(runs):
        for step in range(checkpoints):
            directory = place / f"run-{run}" / f"checkpoint-{step}"
            directory.mkdir(parents=True)
            for name, data in _FILES.items():
                (directory / name).write_bytes(data)
    notes: list[str] = []
    memory = psutil.Process().memory_info
    before = memory().rss
    with Arrivals([place], on_note=notes.append) as arrivals:
        candidates = Candidates(notes.append)
        found = candidates.found(arrivals.take(0.0), [place])
        for candidate in found:
            candidates.judged(candidate, lying(candidate))
        everything = Arrived(frozenset(), frozenset(), rescan=True)
        begun = time.thread_time()
        left = candidates.found(everything, [place])
        full_s = time.thread_time() - begun
        arrivals.looked(everything, full_s)
        cpu, wall = time.process_time(), time.monotonic()
        arrivals.take(_IDLE_S)
        waiting = (time.process_time() - cpu) / (time.monotonic() - wall)
    every_s = max(RESCAN_S, full_s / RESCAN_SHARE)
    told = {
        "found": len(found),
        "left": len(left),
        "full_s": full_s,
        "every_s": every_s,
        "waiting": waiting,
        "share": waiting + full_s / every_s,
        "bytes": memory().rss - before,
        "notes": notes,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
