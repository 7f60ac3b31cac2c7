"""Two processes that train together over gloo, each with a callback or the guard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sentinel.daemon.journal import Journal

pytestmark = pytest.mark.trainer

PROGRAMS = Path(__file__).parent / "programs"

pytest.importorskip("torch")


def heard_by_two(program: str, root: Path) -> list[Any]:
    """What each of two processes wrote down, when torchrun has run them to their end."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, PROGRAMS / program, root],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((root / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_one_process_judges_and_the_other_hears_it(tmp_path):
    """Rank 0 reads; both stop after the same step."""
    assert heard_by_two("two_loops.py", tmp_path) == [
        {"steps": 3, "code": 76, "judged": judged} for judged in (True, False)
    ]


@pytest.mark.slow
def test_the_trainers_processes_stop_together(tmp_path):
    """In Transformers' Trainer and in Lightning's each process ends with the same code."""
    for library in ("transformers", "peft", "pytorch_lightning"):
        pytest.importorskip(library)

    heard = heard_by_two("two_trainers.py", tmp_path)

    assert [one["trainer"] for one in heard] == [
        {"world_size": 2, "code": 76, "step": 2, "judged": judged} for judged in (True, False)
    ]
    assert [one["lightning"] for one in heard] == [
        {"code": 76, "judged": judged} for judged in (True, False)
    ]
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    (run_id,) = journal.runs()
    assert [(one.step, one.level) for one in journal.judged(run_id)] == [(2, "faulty")]
    journal.close()
