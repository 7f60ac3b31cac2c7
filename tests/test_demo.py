"""What must hold of the demo: real trainings, judged and repaired as they really end.

The first scene is the end-to-end test of the main job: a real base model, quantised, a real
adapter that stays dead by itself, stopped, quarantined, restarted in fp32, verified.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sentinel.daemon.journal import Journal
from sentinel.health.reading import RunLog, read_run

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only"),
]


def play(workspace: Path, *options: str) -> tuple[int, str, RunLog]:
    """Play one scene in a process of its own and return its code, output and health log."""
    pytest.importorskip("sentinel_trainer")
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", "demo", "--dir", str(workspace), *options],
        capture_output=True,
        text=True,
        env=dict(os.environ, COLUMNS="200"),
        cwd=workspace.parent,
        check=False,
    )
    journal = Journal(workspace / "state" / "journal.sqlite")
    (run_id,) = journal.runs()
    journal.close()
    return done.returncode, done.stdout + done.stderr, read_run(workspace / "state/health", run_id)


def reported(workspace: Path) -> str:
    """The page that `sentinel report` makes of a played scene."""
    state = str(workspace / "state")
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", "report", "--state", state, "-o", "-"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=workspace.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_scene_is_caught_and_repaired(tmp_path: Path):
    """Dead in fp16 by itself; flagged at its first checkpoint; alive and better in fp32."""
    workspace = tmp_path / "demo"

    code, said, log = play(workspace, "--scene", "demo-zero")

    assert code == 0, said
    first = log.checkpoints[0]
    assert (first.attempt, first.verdict) == (1, "faulty")
    assert first.updates_done > 0
    (dead,) = (workspace / ".sentinel-quarantine").glob(f"{first.checkpoint_id}/checkpoint-*")
    ups = {k: v for k, v in load_file(dead / "adapter_model.safetensors").items() if "lora_B" in k}
    assert ups
    assert all(up.dtype == np.float16 and not up.any() for up in ups.values())
    (plan,) = [event for event in log.events if event.kind == "plan"]
    assert plan.detail["precision"] == "fp32"
    repaired = [row for row in log.checkpoints if row.attempt == 2]
    assert {row.verdict for row in repaired} == {"healthy"}
    losses = [row.settings["metrics.eval_loss"] for row in (first, repaired[-1])]
    assert losses[1] < 0.9 * losses[0]
    assert "fixed" in [event.detail.get("result") for event in log.events]
    assert "demo-zero" not in {path.name for path in workspace.glob("demo-zero/.sentinel*")}

    page = reported(workspace)
    assert "<title>Repaired: demo-zero" in page
    # A trainer that saves once more before it stops has a second rule in the sentence.
    stopped = (
        r"dead-lora-up[a-z, -]* stopped attempt 1; attempt 2 went on from the beginning in fp32"
    )
    assert re.search(stopped, page)
    assert "1: lora_up F16: all exactly zero" in page


@pytest.mark.slow
def test_the_second_scene_resumes_from_a_good_checkpoint(tmp_path: Path):
    """NaN by itself after good checkpoints; resumed from one of them, healthy at the end."""
    code, said, log = play(tmp_path / "demo", "--scene", "demo-nan")

    assert code == 0, said
    grown = {event.checkpoint_id for event in log.events if event.rule == "norm-explosion"}
    finite = [row for row in log.checkpoints if row.attempt == 1 and row.verdict != "faulty"]
    good = [row for row in finite if row.checkpoint_id not in grown]
    assert len(good) >= 2
    (plan,) = [event for event in log.events if event.kind == "plan"]
    assert plan.detail["target"] == good[-1].checkpoint_id
    assert plan.detail["rules"][0] == "nan-values"
    assert log.checkpoints[-1].verdict == "healthy"


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["demo-zero", "demo-nan"])
def test_the_healthy_twins_are_left_alone(tmp_path: Path, scene: str):
    """The same recipes in fp32: nothing fires and nothing is repaired."""
    code, said, log = play(tmp_path / "demo", "--healthy", "--scene", scene)

    assert code == 0, said
    assert {row.verdict for row in log.checkpoints} == {"healthy"}
    assert [event.kind for event in log.events if event.kind in {"finding", "plan"}] == []
