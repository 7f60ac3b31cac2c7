from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from sentinel.health.compaction import compact
from sentinel.health.log import HealthLog
from sentinel.health.query import connect, fetch, sql
from sentinel.health.schema import CHECKPOINTS, DATASETS

PARTS = 3
LAST = datetime(2027, 1, 1, tzinfo=UTC)

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


def test_a_merge_killed_at_any_step_loses_no_row_and_is_finished(story, readers, tmp_path):
    """At each step of a merge: SIGKILL; ours shows each row once, other readers each at least
    once, and the next merge leaves one part a dataset with each row exactly once.
    """
    steps = story.STEPS_A_PART * len(DATASETS) + story.PARTS + 1
    roots = [tmp_path / str(step) for step in range(steps)]
    for root in roots:
        story.write_story(root)
    expected = {one.name: keys(readers.by_polars(roots[0], one.name), one) for one in DATASETS}
    merger = start(story, tmp_path, "kill-merge", str(steps), stdout=subprocess.PIPE, text=True)
    codes, _ = merger.communicate(timeout=120)

    assert [int(code) for code in codes.split()] == [-signal.SIGKILL] * (steps - 1) + [0]
    for root in roots:
        with connect(root) as connection:
            for dataset in DATASETS:
                ours = fetch(connection, f"SELECT * FROM {dataset.name}").to_pylist()
                assert keys(ours, dataset) == expected[dataset.name]
                theirs = keys(readers.by_polars(root, dataset.name), dataset)
                assert set(theirs) == set(expected[dataset.name])

        compact(HealthLog(root), story.RUN, everything=True)

        for dataset in DATASETS:
            assert len(list((root / dataset.name).rglob("*.parquet"))) == 1
            assert keys(readers.by_polars(root, dataset.name), dataset) == expected[dataset.name]


def test_other_readers_see_only_whole_parts_while_a_run_is_written(story, readers, tmp_path):
    """While another process appends, every reader succeeds every time and never sees less."""
    story.write_story(tmp_path)
    counts = dict.fromkeys(readers.READERS, 0)
    writer = start(story, tmp_path, "loop", "100", "15")
    running = True
    while running:
        running = writer.poll() is None
        for name, read in readers.READERS.items():
            found = len(read(tmp_path, "tensors"))
            assert found >= counts[name]
            counts[name] = found

    assert writer.returncode == 0
    assert counts == dict.fromkeys(readers.READERS, 6 + 2 * 15)


@contextmanager
def merging_all_the_time(story, root: Path) -> Iterator[None]:
    """Have another process merge what is due, over and over, while the block lasts."""
    merger = start(story, root, "merge", stdin=subprocess.PIPE)
    try:
        yield
    finally:
        merger.communicate(timeout=120)
    assert merger.returncode == 0


def test_our_own_queries_hold_while_parts_are_merged(story, tmp_path):
    """Merging removes parts under a reader: sql() asks again and never misses or doubles."""
    story.write_story(tmp_path)
    seen = 3
    with merging_all_the_time(story, tmp_path):
        writer = start(story, tmp_path, "loop", "100", "25")
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
    assert seen == 3 + 25


def test_other_readers_lose_nothing_while_parts_are_merged(story, readers, tmp_path):
    """A reader whose part was merged away before it opened it may be told so, and asks again;
    what it is told is never less than before.
    """
    story.write_story(tmp_path)
    seen = dict.fromkeys(readers.READERS, 3)
    with merging_all_the_time(story, tmp_path):
        writer = start(story, tmp_path, "loop", "100", "20")
        running = True
        while running:
            running = writer.poll() is None
            for name, read in readers.READERS.items():
                with suppress(OSError, duckdb.Error, pl.exceptions.PolarsError):
                    found = len(set(keys(read(tmp_path, "checkpoints"), CHECKPOINTS)))
                    assert found >= seen[name]
                    seen[name] = found

    assert writer.returncode == 0
    for read in readers.READERS.values():
        assert len(set(keys(read(tmp_path, "checkpoints"), CHECKPOINTS))) == 3 + 20


def test_several_writers_and_a_merge_keep_the_newest_of_each(story, tmp_path):
    """What one process writes again while another merges the first of it is not removed with it:
    each checkpoint is there once, as judged last.
    """
    with merging_all_the_time(story, tmp_path):
        writers = [start(story, tmp_path, "loop", str(first), "10") for first in (100, 110)]
        codes = [writer.wait(120) for writer in writers]
        codes.append(start(story, tmp_path, "again", "20").wait(120))
    again = HealthLog(tmp_path)
    for step in (101, 119):
        again.append(story.row(step, verdict="faulty", judged_at=LAST), None)
    compact(again, story.RUN, everything=True)

    assert codes == [0, 0, 0]
    told = sql(tmp_path, "SELECT step, verdict FROM checkpoints ORDER BY step").to_pylist()
    assert [row["step"] for row in told] == list(range(100, 120))
    assert {row["step"] for row in told if row["verdict"] == "faulty"} == {101, 119}
    assert {row["verdict"] for row in told} == {"suspect", "faulty"}
    assert sql(tmp_path, "SELECT * FROM tensors").num_rows == 40
