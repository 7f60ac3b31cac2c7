"""Running a program as the processes of a distributed training, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "formats" / "distributed" / "programs"
TIMEOUT_S = 600


def run_ranks(root: Path, program: str, *arguments: object, ranks: int = 2) -> None:
    """Run one of the programs once a rank; they meet at a file in ``root``."""
    environment = {
        **os.environ,
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "OMP_NUM_THREADS": "1",
        "RENDEZVOUS": (root / "rendezvous").as_uri(),
        # accelerate asks for them before it sees that all is set up.
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    command = [sys.executable, "-W", "ignore", str(PROGRAMS / program), *map(str, arguments)]
    running = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]
    outputs = [one.communicate(timeout=TIMEOUT_S)[0] for one in running]
    assert [one.returncode for one in running] == [0] * ranks, "\n".join(outputs)
