"""What probes of repairs share: the command itself, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def repaired(checkpoint: Path, *options: str) -> Path:
    """Return the copy that `sentinel repair` makes of a checkpoint."""
    command = [sys.executable, "-m", "sentinel", "repair", str(checkpoint), *options]
    done = subprocess.run(
        [*command, "--apply", "--format", "json"], stdout=subprocess.PIPE, text=True, check=True
    )
    told = json.loads(done.stdout)
    if not told["written"]:
        raise RuntimeError(f"nothing to change in {checkpoint}")
    return Path(told["target"])
