from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.health.log import HealthLog
from sentinel.health.query import sql
from sentinel.health.schema import DATASETS

PARTS = 3

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")


def start(story, root: Path, *arguments: str, **options: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, story.__file__, str(root), *arguments], **options)


def keys(rows, dataset) -> list[tuple]:
    return sorted(tuple(row[name] for name in dataset.key) for row in rows)


def test_a_writer_killed_at_any_step_leaves_every_reader_a_whole_log(story, readers, tmp_path):
    """At each step of an append: SIGKILL; pyarrow, DuckDB and Polars read on, no checkpoint is
    half there, and the same append again leaves each row exactly once.
    """
    steps = story.STEPS_A_PART * PARTS + 1
    roots = [tmp_path / str(step) for step in range(steps)]
    for root in roots:
        story.write_story(root)
    writer = start(story, tmp_path, "kill", str(steps), stdout=subprocess.PIPE, text=True)
    codes, _ = writer.communicate(timeout=120)

    assert [int(code) for code in codes.split()] == [-signal.SIGKILL] * (steps - 1) + [0]
    for step, root in enumerate(roots):
        killed = story.row(60)
        committed = step >= story.STEPS_A_PART * PARTS - 1
        asked = f"SELECT * FROM tensors WHERE checkpoint_id = '{killed.checkpoint_id}'"
        assert sql(root, asked).num_rows == (2 if committed else 0)
        before = {name: read(root, "checkpoints") for name, read in readers.READERS.items()}
        assert {name: len(rows) for name, rows in before.items()} == dict.fromkeys(
            readers.READERS, 4 if committed else 3
        )

        HealthLog(root).append(killed, story.tensors(60), story.findings(killed))

        expected = {"checkpoints": 4, "tensors": 8, "events": 5}
        for dataset in DATASETS:
            for read in readers.READERS.values():
                found = keys(read(root, dataset.name), dataset)
                assert len(found) == len(set(found)) == expected[dataset.name]


def test_other_readers_see_only_whole_parts_while_a_run_is_written(story, readers, tmp_path):
    """While another process appends, every reader succeeds every time and never sees less."""
    story.write_story(tmp_path)
    counts = dict.fromkeys(readers.READERS, 0)
    writer = start(story, tmp_path, "loop", "15", "0")
    running = True
    while running:
        running = writer.poll() is None
        for name, read in readers.READERS.items():
            found = len(read(tmp_path, "tensors"))
            assert found >= counts[name]
            counts[name] = found

    assert writer.returncode == 0
    assert counts == dict.fromkeys(readers.READERS, 6 + 2 * 15)


def test_our_own_queries_hold_while_parts_are_merged(story, tmp_path):
    """Merging removes parts under a reader: sql() asks again and never misses or doubles."""
    story.write_story(tmp_path)
    writer = start(story, tmp_path, "loop", "20", "4")
    seen = 3
    running = True
    while running:
        running = writer.poll() is None
        answer = sql(
            tmp_path,
            "SELECT count(DISTINCT c.checkpoint_id) AS checkpoints, count(*) AS tensors "
            "FROM checkpoints c JOIN tensors t USING (checkpoint_id)",
        ).to_pylist()[0]
        assert answer["tensors"] == 2 * answer["checkpoints"]
        assert answer["checkpoints"] >= seen
        seen = answer["checkpoints"]

    assert writer.returncode == 0
    assert seen == 3 + 20
