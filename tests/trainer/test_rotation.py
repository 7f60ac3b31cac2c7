"""Old checkpoints go, but never the last good one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.trainer

VERDICTS = st.sampled_from(["healthy", "suspect", "faulty", "unreadable"])
NAN_IN_FP16 = {"adapter__dtype": "fp16", "training__optimizer": "{name: adamw}"}


def steps_in(output_dir):
    return sorted(int(path.name.split("-")[1]) for path in output_dir.glob("checkpoint-*"))


@given(st.dictionaries(st.integers(1, 99), VERDICTS, max_size=9), st.integers(1, 5))
def test_the_newest_and_the_last_good_one_stay(part, verdicts, keep):
    steps = sorted(verdicts)
    gone = part("rotation").outdated(steps, keep, verdicts)
    left = [step for step in steps if step not in gone]
    assert left[-keep:] == steps[-keep:]
    good = [step for step in steps if verdicts[step] in {"healthy", "suspect"}]
    assert good[-1:] == [step for step in good if step in left][-1:]
    assert len(left) <= keep + 1


def test_nothing_is_deleted_that_was_not_judged(part):
    outdated = part("rotation").outdated
    assert outdated([1, 2, 3], 1, None) is None
    assert outdated([1, 2, 3], 1, {1: "healthy", 3: "healthy"}) is None


def test_a_training_keeps_as_many_as_it_was_told(train, tmp_path, losses):
    """Judged by the real command, whose word lets the others go."""
    assert train(tmp_path, training__keep=1) == 0
    assert steps_in(tmp_path) == [6]
    assert list(losses(tmp_path)) == [1, 2, 3, 4, 5, 6]


def test_the_last_good_one_outlives_those_with_nan(train, tmp_path):
    """A finite checkpoint, then a run whose weights are NaN at once: counting would lose it."""
    out = tmp_path / "out"
    settings = {"training__save_every": 1, "training__keep": 1, "training__steps": 4}
    assert train(out, training__steps=2, training__save_every=2) == 0
    resumed = ("--resume", out / "checkpoint-2", "--resume-optimizer", "drop")
    assert train(out, *resumed, **settings, **NAN_IN_FP16) == 0
    assert steps_in(out) == [2, 4]


def test_a_kill_while_deleting_leaves_no_half_checkpoint(part, tmp_path):
    """It has lost its name before the first file goes, and the next start sweeps it away."""
    checkpoint = tmp_path / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("x")
    package = part("main").__package__
    program = (
        f"import os, signal, shutil\nfrom pathlib import Path\n"
        f"from {package} import checkpoints\n"
        "shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"checkpoints.delete(Path({str(checkpoint)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, env=os.environ)
    assert done.returncode != 0
    assert part("checkpoints").numbered(tmp_path) == {}
    assert len(part("checkpoints").remove_stale(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_tells_how_many_are_kept(train, tmp_path):
    assert train(tmp_path, training__steps=2, training__keep=3) == 0
    manifest = json.loads((tmp_path / "checkpoint-2" / "sentinel_manifest.json").read_text())
    assert manifest["recipe"]["training"]["keep"] == 3
