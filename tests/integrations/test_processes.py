"""Two processes that train together over gloo, each with the callback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.daemon.journal import Journal

pytestmark = pytest.mark.trainer

PROGRAM = Path(__file__).parent / "programs" / "two_ranks.py"

pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("pytorch_lightning")


def test_one_process_judges_and_all_hear_it(tmp_path):
    """Rank 0 reads; the other stops at the same step, with the same code."""
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    ]  # fmt: skip
    done = subprocess.run(
        [*launch, PROGRAM, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    heard = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["trainer"] for one in heard] == [
        {"world_size": 2, "code": 76, "step": 2, "judged": judged} for judged in (True, False)
    ]
    assert [one["loop"] for one in heard] == [
        {"step": 1, "code": 76, "judged": judged} for judged in (True, False)
    ]
    assert [one["lightning"] for one in heard] == [
        {"code": 76, "judged": judged} for judged in (True, False)
    ]
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    (run_id,) = journal.runs()
    assert [(one.step, one.level) for one in journal.judged(run_id)] == [(2, "faulty")]
    journal.close()
