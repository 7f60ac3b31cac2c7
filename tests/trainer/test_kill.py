"""The real command, really killed while it saves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL"),
]


def test_a_kill_while_saving_leaves_whole_checkpoints(package, recipe_file, train, tmp_path, part):
    """SIGKILL when the third half-made checkpoint shows up; then a resume goes on."""
    settings = [f"output_dir={tmp_path}", "training.save_every=1", "training.steps=500"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", f"{package}.main", str(recipe_file), *words]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        seen: set[str] = set()
        while len(seen) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
            seen |= {path.name for path in tmp_path.glob(".tmp-checkpoint-*")}
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    found = part("checkpoints").numbered(tmp_path)
    assert found
    for checkpoint in found.values():
        manifest = json.loads((checkpoint / "sentinel_manifest.json").read_text())
        for name, entry in manifest["files"].items():
            assert (checkpoint / name).stat().st_size == entry["size_bytes"]
    last = max(found)
    assert train(tmp_path, "--resume", found[last], training__steps=last + 1) == 0
    assert list(tmp_path.glob(".tmp-*")) == []
