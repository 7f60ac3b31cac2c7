"""One question to a health log, in a process of its own: how long it takes and what it holds.

`python questions.py LOG NAME CHECKPOINTS` prints a line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from synthetic import RUN, identity_of

from sentinel.health.earlier import earlier
from sentinel.health.history import run_history
from sentinel.health.query import sql
from sentinel.health.reading import read_run

_TENSOR = "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
_WHERE = f"run_id = '{RUN}'"


def _sql(query: str) -> Callable[[Path, int], int]:
    return lambda root, _count: sql(root, query).num_rows


QUESTIONS: dict[str, tuple[str, Callable[[Path, int], int]]] = {
    "sixteen": (
        "the 16 checkpoints before, with their tensors (what rules ask after a restart)",
        lambda root, count: len(
            earlier(root, RUN, [identity_of(count - back) for back in range(16)])
        ),
    ),
    "oldest": (
        "the first checkpoint, with its tensors",
        lambda root, _count: len(earlier(root, RUN, [identity_of(1)])),
    ),
    "history": (
        "the run's whole line of checkpoints, and the tensors of the newest",
        lambda root, _count: run_history(root, RUN, attempt=1).checkpoints.num_rows,
    ),
    "verdicts": (
        "step and verdict of every checkpoint of the run, by SQL",
        _sql(f"SELECT step, verdict FROM checkpoints WHERE {_WHERE} ORDER BY seq"),
    ),
    "values": (
        "every checkpoint and event of the run as values (`sentinel log RUN`)",
        lambda root, _count: len(read_run(root, RUN).checkpoints),
    ),
    "norm": (
        "the norm of one tensor in every checkpoint of the run, by SQL over all its tensors",
        _sql(f"SELECT l2 FROM tensors WHERE {_WHERE} AND tensor = '{_TENSOR}'"),
    ),
}


def main() -> None:
    root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    wall, cpu = time.perf_counter(), time.process_time()
    rows = QUESTIONS[name][1](root, count)
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**took, "rows": rows, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
