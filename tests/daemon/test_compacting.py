from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from click.testing import CliRunner

from sentinel.cli.main import cli
from sentinel.daemon.compacting import compacting
from sentinel.health.compaction import FANOUT
from sentinel.health.log import HealthLog
from sentinel.health.query import sql
from sentinel.health.rows import CheckpointRow

RUN = "6f1c0b6a-4c5e-4d0c-9c57-2a8f0c9a8e23"
OTHER_RUN = "9a4f3f0e-1d2c-4b7a-8a51-0a7f0a6f2f12"
AT = datetime(2026, 5, 1, tzinfo=UTC)
ONE = CheckpointRow(
    run_id=RUN,
    attempt=1,
    seq=0,
    checkpoint_id="",
    parent=None,
    path="/runs/a",
    layout="peft",
    trainer=None,
    step=None,
    epoch=None,
    updates_done=None,
    size_bytes=1,
    tensor_count=1,
    dtypes=("F32",),
    verdict="healthy",
    usable=("weights",),
    reason=None,
    seen_at=AT,
    settled_at=AT,
    judged_at=AT,
)


@pytest.fixture
def log(tmp_path: Path) -> HealthLog:
    return HealthLog(tmp_path / "health")


def fill(log: HealthLog, count: int, run_id: str = RUN) -> None:
    for seq in range(count):
        row = replace(ONE, run_id=run_id, seq=seq, checkpoint_id=f"{run_id[:4]}-{seq}")
        log.append(row, pa.table({"tensor": ["a"]}))


def parts(log: HealthLog, dataset: str = "tensors") -> int:
    return len(list((log.root / dataset).rglob("*.parquet")))


def seen(log: HealthLog) -> list[int]:
    rows = sql(log.root, "SELECT seq FROM checkpoints JOIN tensors USING (checkpoint_id)")
    return sorted(rows["seq"].to_pylist())


def test_runs_that_grew_are_merged_in_a_child_that_ends(log):
    """Those with enough parts become few, others stay; afterwards no process is left."""
    fill(log, FANOUT + 1)
    fill(log, 3, OTHER_RUN)
    before = set(psutil.Process().children())
    notes: list[str] = []
    with compacting(log, [RUN], on_note=notes.append) as merging:
        merging.grew(OTHER_RUN)
        merging.finish()

        assert set(psutil.Process().children()) == before
    assert notes == []
    assert parts(log) == 2 + 3
    assert parts(log, "checkpoints") == 2 + 3
    assert seen(log) == sorted([*range(FANOUT + 1), *range(3)])


def test_a_merge_broken_off_at_the_end_loses_nothing_and_is_made_up_for(log):
    """Closed while the child merges, at once; the next start takes up what was due."""
    fill(log, 4 * FANOUT)
    notes: list[str] = []
    with compacting(log, [RUN], on_note=notes.append):
        pass
    assert seen(log) == list(range(4 * FANOUT))

    with compacting(log, [RUN], on_note=notes.append) as merging:
        merging.finish()

    assert notes == []
    assert parts(log) == 4
    assert seen(log) == list(range(4 * FANOUT))


def test_a_log_that_cannot_be_merged_is_said_once(log):
    """A part that is no Parquet file: a note, and the judging goes on."""
    fill(log, FANOUT)
    broken = next((log.root / "tensors").rglob("*.parquet"))
    broken.write_bytes(b"PAR1")
    notes: list[str] = []
    with compacting(log, [RUN], on_note=notes.append) as merging:
        merging.finish()
        merging.grew(RUN)
        merging.finish()

    assert len(notes) == 1
    assert "was not merged" in notes[0]
    assert parts(log) == FANOUT


def test_the_log_is_merged_by_hand(log):
    """`sentinel log --compact` leaves one part a dataset and run, beside a writer or not."""
    fill(log, 3)
    fill(log, 2, OTHER_RUN)
    words = [sys.executable, "-m", "sentinel", "log", "--compact", "--log", str(log.root)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert "merged 10 parts" in done.stderr
    assert (parts(log), parts(log, "checkpoints")) == (2, 2)

    fill(log, 5)
    told = CliRunner().invoke(cli, ["log", RUN, "--compact", "--log", str(log.root)])

    assert told.exit_code == 0
    assert (parts(log), parts(log, "checkpoints")) == (2, 2)
    assert seen(log) == sorted([*range(5), *range(2)])
