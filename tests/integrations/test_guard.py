"""The guard by itself, where no training library is installed."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.daemon.journal import Journal
from sentinel.daemon.process_tree import MARK
from sentinel.integrations.accelerate import TrainingStopped, guard
from sentinel.integrations.guard import Guard
from sentinel.integrations.options import Options

ALONE = """
import sys
sys.modules["torch"] = None
from sentinel.integrations.accelerate import guard
with guard() as check:
    for step in (1, 2):
        check(f"cat-step{step:08}.safetensors")
print("went on")
"""


KILLED = """
import os, signal
from sentinel.integrations.accelerate import guard
with guard(state="state") as check:
    check("out/cat-step00000001.safetensors")
    os.kill(os.getpid(), signal.SIGKILL)
"""
PAGE = Path(__file__).parents[2] / "docs" / "inside.md"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No `sentinel.yaml` and no sentinel around the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(MARK, raising=False)


def save(path: Path, *, nan: bool = False) -> Path:
    draw = np.random.default_rng(0)
    pair = {
        "a.lora_down.weight": draw.uniform(-0.2, 0.2, (4, 32)).astype("f4"),
        "a.lora_up.weight": np.full((16, 4), np.nan, "f4")
        if nan
        else draw.normal(0, 0.01, (16, 4)).astype("f4"),
        "a.alpha": np.array(4, "f4"),
    }
    save_file(pair, path)
    return path


def test_without_any_training_library_a_loop_is_guarded(tmp_path):
    """A loop in JAX or MLX needs no torch; its script ends with code 76 and no traceback."""
    save(tmp_path / "cat-step00000001.safetensors")
    save(tmp_path / "cat-step00000002.safetensors", nan=True)

    done = subprocess.run(
        [sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 76, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith("sentinel: ") for line in lines)
    assert "step00000002.safetensors' is faulty: 1 of 3 tensors hold NaN" in lines[0]
    assert lines[1:] == ["sentinel: the training is stopped (nan-values), exit code 76"]


def test_what_nobody_thought_of_is_logged_once_with_its_trace(tmp_path, caplog):
    """A loop that passes no path goes on, and its next save is judged."""
    with guard(on_stop="return") as check:
        assert [check(None) for _ in range(3)] == [False, False, False]

        (record,) = (one for one in caplog.records if one.name == "sentinel")
        assert "a bug (TypeError: " in record.message
        assert record.message.endswith("; the training goes on")
        assert record.exc_info is not None
        assert check(save(tmp_path / "cat-step00000002.safetensors", nan=True)) is True


def test_what_is_no_news_is_told_quietly(tmp_path, caplog):
    """The same fault in each of a hundred saves is one warning."""
    caplog.set_level(logging.INFO, "sentinel")
    known = Guard(policy="report")

    for step in (1, 2, 3):
        known.saved(save(tmp_path / f"cat-step{step:08}.safetensors", nan=True))

    levels = [one.levelno for one in caplog.records if "is faulty" in one.message]
    assert levels == [logging.WARNING, logging.INFO, logging.INFO]
    assert known.exit_code == 70


def test_the_block_of_a_stopped_loop_ends_by_its_own_exception(tmp_path):
    """The stop comes out of the `with` block as it was raised, and the guard is closed."""
    path = save(tmp_path / "cat-step00000001.safetensors", nan=True)

    with pytest.raises(TrainingStopped) as stopped, guard(state=tmp_path / "state") as check:
        check(path)

    assert stopped.value.__context__ is None
    with guard(state=tmp_path / "state", on_stop="return") as again:
        assert again(path) is True


@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_after_a_kill_the_next_training_has_the_run(tmp_path):
    """The locks end with the process, and the next attempt is another one of the same run."""
    (tmp_path / "out").mkdir()
    save(tmp_path / "out" / "cat-step00000001.safetensors")
    subprocess.run([sys.executable, "-c", KILLED], timeout=100, check=False)

    with guard(state=tmp_path / "state") as check:
        check(save(tmp_path / "out" / "cat-step00000002.safetensors"))

    journal = Journal(tmp_path / "state" / "journal.sqlite")
    (run_id,) = journal.runs()
    assert [(one.attempt, one.step) for one in journal.judged(run_id)] == [(1, 1), (2, 2)]
    assert [one.state for one in journal.attempts(run_id)] == ["started", "ended"]
    journal.close()


def test_the_page_names_every_option():
    """What may be given stands in the table of the page, and nothing else does."""
    page = PAGE.read_text(encoding="utf-8")
    section = page.split("## What may be given")[1].split("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \| ", section, re.MULTILINE)

    assert named == list(Options.__annotations__)
