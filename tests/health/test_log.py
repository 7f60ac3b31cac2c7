from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.errors import StateError
from sentinel.health.log import HealthLog
from sentinel.health.query import sql
from sentinel.health.reading import checkpoint_rows, event_rows, read_run
from sentinel.health.schema import CHECKPOINTS, DATASETS, EVENTS, TENSORS, conform


def parts(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))


def test_what_was_written_comes_back(story, tmp_path):
    """Rows read back equal the rows written, every column of them."""
    log = HealthLog(tmp_path)
    bad = story.row(40, parent="p", reason="why", epoch=None, trainer=None)
    events = story.findings(bad)

    log.append(bad, story.tensors(40), events)
    log.append_event(story.plan(59))

    assert checkpoint_rows(sql(tmp_path, "SELECT * FROM checkpoints")) == (bad,)
    found = event_rows(sql(tmp_path, "SELECT * FROM events ORDER BY events.at, rule"))
    # The sequence of parts is told as a list by JSON.
    expected = [replace(e, detail={**e.detail, "parts": ["weights"]}) for e in events]
    assert list(found) == [*expected, story.plan(59)]


def test_a_run_is_read_back_in_its_order(story, tmp_path):
    """Checkpoints by attempt, step and seq; events by time; another run is not mixed in."""
    log = story.write_story(tmp_path)
    log.append(story.row(10, run_id=story.OTHER_RUN, checkpoint_id="other"), None)

    run = read_run(tmp_path, story.RUN)

    assert [(row.attempt, row.step) for row in run.checkpoints] == [(1, 20), (1, 40), (2, 40)]
    assert [event.kind for event in run.events] == ["plan", "finding", "finding"]
    assert read_run(tmp_path, "nobody").checkpoints == ()


def test_writing_again_replaces(story, tmp_path):
    """The same checkpoint and event appended twice lie in the same parts."""
    log = story.write_story(tmp_path)
    before = parts(tmp_path)

    story.write_story(tmp_path)

    assert parts(tmp_path) == before
    assert len(before) == 3 + 3 + 2
    assert sql(tmp_path, "SELECT * FROM events").num_rows == 3
    assert log.root == tmp_path


def test_nothing_but_parts_lies_in_a_dataset(story, tmp_path):
    """Unfinished files are kept elsewhere: a strict reader may list the whole directory."""
    story.write_story(tmp_path)

    files = [path for d in DATASETS for path in (tmp_path / d.name).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet"}


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_parts_have_the_columns_of_the_schema_and_zstd(story, tmp_path, dataset):
    """Each part's own schema is exactly the dataset's, its bytes are compressed."""
    story.write_story(tmp_path)

    for path in (tmp_path / dataset.name).rglob("*.parquet"):
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(dataset.schema)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize(
    "run_id",
    ["", "..", "a/b", "run1", "0D9F8C1E-4F0B-4B3A-9A51-0A7F0A6F2F11", "{x}", "a\0", "2026-01-01"],
)
def test_only_a_uuid_becomes_a_directory(story, tmp_path, run_id):
    """Any other run id is refused before anything is written."""
    with pytest.raises(StateError, match="its name is no UUID"):
        HealthLog(tmp_path).append(story.row(1, run_id=run_id), None)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "a.parquet", "x" * 129])
def test_only_a_safe_id_becomes_a_file(story, tmp_path, name):
    """Any other checkpoint or event id is refused before anything is written."""
    log = HealthLog(tmp_path)

    with pytest.raises(StateError, match="letters, digits"):
        log.append(story.row(1, checkpoint_id=name), story.tensors(1))
    with pytest.raises(StateError, match="letters, digits"):
        log.append_event(story.plan(event_id=name))

    assert list(tmp_path.iterdir()) == []


def test_events_of_another_run_are_refused(story, tmp_path):
    """They would be written under a run they do not belong to."""
    stranger = story.plan(run_id=story.OTHER_RUN)

    with pytest.raises(ValueError, match="another run"):
        HealthLog(tmp_path).append(story.row(1), None, [stranger])


def test_text_that_is_no_unicode_is_escaped(story, tmp_path):
    """Undecodable names in paths, tensors and settings are written, not choked on."""
    bad = story.row(1, path="caf\udce9", settings={"\udce9": float("nan")})
    event = story.plan(tensors=("a\ud800",), message="\udcff")

    HealthLog(tmp_path).append(bad, None, [event])

    row = sql(tmp_path, "SELECT path, settings FROM checkpoints").to_pylist()[0]
    assert row == {"path": "caf\\xe9", "settings": '{"\\\\xe9": "nan"}'}
    told = sql(tmp_path, "SELECT message, tensors FROM events").to_pylist()[0]
    assert told == {"message": "\\xff", "tensors": ["a\\ud800"]}


def test_an_append_that_fails_leaves_no_checkpoint(story, tmp_path):
    """When the tensors cannot be written there is no commit mark either."""
    numbers = pa.table({"tensor": ["a"], "numel": ["many"]})

    with pytest.raises(pa.ArrowInvalid):
        HealthLog(tmp_path).append(story.row(1), numbers)

    assert parts(tmp_path) == []


def test_conform_keeps_known_columns_and_fills_the_rest():
    """Unknown columns go, absent ones are NULL, types are those of the schema."""
    table = pa.table({"tensor": ["a"], "numel": pa.array([3], pa.int32()), "family": ["lora"]})

    conformed = conform(table, TENSORS.schema)

    assert conformed.schema.equals(TENSORS.schema)
    row = conformed.to_pylist()[0]
    assert (row["tensor"], row["numel"], row["l2"]) == ("a", 3, None)


def test_keys_and_times_are_columns():
    """What tells rows apart is in the schema, so a reader can deduplicate too."""
    for dataset in (CHECKPOINTS, TENSORS, EVENTS):
        named = {*dataset.key, *([dataset.newest_by] if dataset.newest_by else [])}
        assert named <= set(dataset.schema.names)
