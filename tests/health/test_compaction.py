from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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

    log.compact(story.RUN)

    assert [count(tmp_path, dataset.name) for dataset in DATASETS] == [1, 1, 1]
    assert answers(tmp_path) == before
    for read in readers.READERS.values():
        assert len(read(tmp_path, "tensors")) == 6


def test_merging_again_changes_nothing(story, tmp_path):
    """One part is left alone; an empty run too."""
    log = story.write_story(tmp_path)
    log.compact(story.RUN)
    before = sorted(tmp_path.rglob("*"))

    log.compact(story.RUN)
    log.compact(story.OTHER_RUN)

    assert sorted(path for path in tmp_path.rglob("*") if path in before) == before


def test_a_merge_cut_short_doubles_for_others_and_loses_nothing(story, readers, tmp_path):
    """Killed before the sources are gone: our views show each row once, the next merge heals."""
    log = story.write_story(tmp_path)
    before = answers(tmp_path)
    sources = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    log.compact(story.RUN)
    for path, data in sources.items():
        path.write_bytes(data)

    assert len(readers.by_polars(tmp_path, "checkpoints")) == 6
    assert answers(tmp_path) == before

    log.compact(story.RUN)

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
        HealthLog(tmp_path, writer=full_disk).compact(story.RUN)

    assert answers(tmp_path) == before
    assert count(tmp_path, "checkpoints") == 3


def test_the_newest_verdict_of_a_checkpoint_wins(story, tmp_path):
    """A checkpoint judged again after a merge is shown as judged last, before and after."""
    log = story.write_story(tmp_path)
    log.compact(story.RUN)
    later = story.BEGIN.replace(hour=9)
    log.append(story.row(40, verdict="suspect", judged_at=later), None)
    asked = "SELECT verdict FROM checkpoints WHERE attempt = 1 AND step = 40"

    assert sql(tmp_path, asked).to_pylist() == [{"verdict": "suspect"}]
    log.compact(story.RUN)
    assert sql(tmp_path, asked).to_pylist() == [{"verdict": "suspect"}]


def test_columns_of_a_newer_version_survive_a_merge(story, tmp_path):
    """An older sentinel that merges a newer one's parts does not drop what it does not know."""
    log = story.write_story(tmp_path)
    part = next((tmp_path / "checkpoints").rglob("*.parquet"))
    table = pq.ParquetFile(part).read()
    pq.write_table(table.append_column("loss_scale", pa.array([1024.0])), part)

    log.compact(story.RUN)

    merged = pq.ParquetFile(next((tmp_path / "checkpoints").rglob("*.parquet"))).read()
    assert sorted(merged["loss_scale"].to_pylist(), key=str) == [1024.0, None, None]


def test_merging_happens_only_when_it_is_worth_it(story, tmp_path):
    """Below the threshold nothing is touched; at it the run is merged and leftovers go."""
    log = story.write_story(tmp_path)
    leftover = tmp_path / ".staging" / f"run_id={story.RUN}" / ".x.parquet.abc.tmp"
    leftover.write_bytes(b"half")

    assert not log.maybe_compact(story.RUN, threshold=4)
    assert leftover.exists()

    assert log.maybe_compact(story.RUN, threshold=3)
    assert count(tmp_path, "checkpoints") == 1
    assert not leftover.exists()
