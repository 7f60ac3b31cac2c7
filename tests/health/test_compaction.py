from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.health import merge
from sentinel.health.compaction import compact, is_due
from sentinel.health.earlier import earlier
from sentinel.health.locks import merging
from sentinel.health.log import HealthLog, staging_writer
from sentinel.health.query import sql
from sentinel.health.schema import DATASETS


def count(root: Path, dataset: str) -> int:
    return len(list((root / dataset).rglob("*.parquet")))


def answers(root: Path) -> list[list[dict]]:
    ordered = ("checkpoints ORDER BY seq", "tensors ORDER BY ALL", "events ORDER BY event_id")
    return [sql(root, f"SELECT * FROM {rows}").to_pylist() for rows in ordered]


def test_merging_keeps_every_row_in_one_part(story, readers, tmp_path):
    """Afterwards each dataset of the run is one part that any reader reads, rows unchanged."""
    log = story.write_story(tmp_path)
    before = answers(tmp_path)

    compact(log, story.RUN, everything=True)

    assert [count(tmp_path, dataset.name) for dataset in DATASETS] == [1, 1, 1]
    assert answers(tmp_path) == before
    for read in readers.READERS.values():
        assert len(read(tmp_path, "tensors")) == 6


def test_merging_again_changes_nothing(story, tmp_path):
    """One part is left alone; an empty run too."""
    log = story.write_story(tmp_path)
    compact(log, story.RUN, everything=True)
    before = sorted(tmp_path.rglob("*"))

    compact(log, story.RUN, everything=True)
    compact(log, story.OTHER_RUN, everything=True)

    assert sorted(path for path in tmp_path.rglob("*") if path in before) == before


def test_a_merge_cut_short_doubles_for_others_and_loses_nothing(story, readers, tmp_path):
    """Killed before the sources are gone: our views show each row once, the next merge heals."""
    log = story.write_story(tmp_path)
    before = answers(tmp_path)
    sources = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    compact(log, story.RUN, everything=True)
    for path, data in sources.items():
        path.write_bytes(data)

    assert len(readers.by_polars(tmp_path, "checkpoints")) == 6
    assert answers(tmp_path) == before

    compact(log, story.RUN, everything=True)

    assert len(readers.by_polars(tmp_path, "checkpoints")) == 3
    assert answers(tmp_path) == before


def test_nothing_is_removed_before_the_merged_part_is_whole(story, tmp_path):
    """A disk that fails while merging leaves all sources in place."""
    story.write_story(tmp_path)
    before = answers(tmp_path)

    @contextmanager
    def full_disk(path):
        with staging_writer(tmp_path)(path) as file:
            yield file
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        compact(HealthLog(tmp_path, writer=full_disk), story.RUN, everything=True)

    assert answers(tmp_path) == before
    assert count(tmp_path, "checkpoints") == 3


def test_the_newest_verdict_of_a_checkpoint_wins(story, tmp_path):
    """A checkpoint judged again after a merge is shown as judged last, before and after."""
    log = story.write_story(tmp_path)
    compact(log, story.RUN, everything=True)
    later = story.BEGIN.replace(hour=9)
    log.append(story.row(40, verdict="suspect", judged_at=later), None)
    asked = "SELECT verdict FROM checkpoints WHERE attempt = 1 AND step = 40"

    assert sql(tmp_path, asked).to_pylist() == [{"verdict": "suspect"}]
    compact(log, story.RUN, everything=True)
    assert sql(tmp_path, asked).to_pylist() == [{"verdict": "suspect"}]


def test_columns_of_a_newer_version_survive_a_merge(story, tmp_path):
    """An older sentinel that merges a newer one's parts does not drop what it does not know."""
    log = story.write_story(tmp_path)
    part = next((tmp_path / "checkpoints").rglob("*.parquet"))
    table = pq.ParquetFile(part).read()
    pq.write_table(table.append_column("loss_scale", pa.array([1024.0])), part)

    compact(log, story.RUN, everything=True)

    merged = pq.ParquetFile(next((tmp_path / "checkpoints").rglob("*.parquet"))).read()
    assert sorted(merged["loss_scale"].to_pylist(), key=str) == [1024.0, None, None]


def test_each_row_is_written_again_once_a_level(story, tmp_path):
    """Merged as soon as something is due: the parts stay few and no run is rewritten as a whole."""
    written: Counter[str] = Counter()

    @contextmanager
    def counting(path):
        with staging_writer(tmp_path)(path) as file:
            yield file
        if path.name.startswith("merged-"):
            written[path.parents[1].name] += pq.read_metadata(path).num_rows

    log = HealthLog(tmp_path, writer=counting)
    most = 0
    for step in range(1, 28):
        log.append(story.row(step), story.tensors(step))
        assert is_due(log, story.RUN, fanout=3) == (step % 3 == 0)
        compact(log, story.RUN, fanout=3)
        most = max(most, count(tmp_path, "tensors"))

    assert [count(tmp_path, name) for name in ("checkpoints", "tensors")] == [1, 1]
    assert most == 2 * 3
    assert written == {"checkpoints": 27 * 3, "tensors": 2 * 27 * 3}
    assert sql(tmp_path, "SELECT * FROM tensors").num_rows == 2 * 27


def test_rows_lie_in_groups_of_a_reader_s_size(story, tmp_path, monkeypatch):
    """A merged part has whole row groups in the order of the run, and its footer says where each
    checkpoint lies: one is read from its groups alone.
    """
    monkeypatch.setattr(merge, "ROWS_A_GROUP", 5)
    log = HealthLog(tmp_path)
    for step in range(1, 9):
        log.append(story.row(step), story.tensors(step))
    compact(log, story.RUN, everything=True)

    (part,) = (tmp_path / "tensors").rglob("*.parquet")
    with pq.ParquetFile(part) as file:
        sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sizes == [5, 5, 5, 1]
    ids = [story.row(step).checkpoint_id for step in range(1, 9)]
    found = earlier(tmp_path, story.RUN, [*ids, "nobody"])
    assert {one: told.tensors["l2"].to_pylist() for one, told in found.items()} == {
        story.row(step).checkpoint_id: [step + 0.5, 1.5] for step in range(1, 9)
    }


def test_a_part_that_was_written_again_is_not_removed_with_its_former_self(story, tmp_path):
    """A new verdict that came in the middle of a merge stays beside the merged part."""
    story.write_story(tmp_path)
    later = story.BEGIN.replace(hour=9)

    @contextmanager
    def slow(path):
        with staging_writer(tmp_path)(path) as file:
            yield file
            if path.parents[1].name == "checkpoints":
                HealthLog(tmp_path).append(story.row(40, verdict="suspect", judged_at=later), None)

    compact(HealthLog(tmp_path, writer=slow), story.RUN, everything=True)

    assert count(tmp_path, "checkpoints") == 2
    asked = "SELECT verdict FROM checkpoints WHERE attempt = 1 AND step = 40"
    assert sql(tmp_path, asked).to_pylist() == [{"verdict": "suspect"}]


def test_parts_merged_by_a_version_before_levels_are_read_and_merged(story, tmp_path):
    """Their footers say nothing of what they hold: they are read as a whole."""
    log = story.write_story(tmp_path)
    before = answers(tmp_path)
    for dataset in DATASETS:
        parts = sorted((tmp_path / dataset.name).rglob("*.parquet"))
        merged = pa.concat_tables([pq.ParquetFile(part).read() for part in parts])
        for part in parts:
            part.unlink()
        pq.write_table(merged, parts[0].with_name(f"merged-{'0' * 32}.parquet"))
    one = story.row(20).checkpoint_id

    assert earlier(tmp_path, story.RUN, [one])[one].tensors["l2"].to_pylist() == [20.5, 1.5]
    log.append(story.row(60), story.tensors(60))
    assert compact(log, story.RUN, everything=True) == 4
    assert [rows for rows in answers(tmp_path)[0] if rows["step"] != 60] == before[0]


def test_what_a_killed_writer_left_unfinished_goes(story, tmp_path):
    """Old leftovers only: what lies there since a moment ago may be a writer's at work."""
    log = story.write_story(tmp_path)
    old, new = (log.staging(story.RUN) / f".{name}.parquet.tmp" for name in ("old", "new"))
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))

    compact(log, story.RUN)

    assert not old.exists()
    assert new.exists()


def test_one_process_merges_a_run_at_a_time(story, tmp_path):
    """Asked while another merges it, the second does nothing."""
    log = story.write_story(tmp_path)
    with merging(tmp_path, story.RUN) as ours:
        assert ours
        assert compact(log, story.RUN, everything=True) == 0

    assert compact(log, story.RUN, everything=True) == 8
