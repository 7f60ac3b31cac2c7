from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sentinel.errors import ConfigError
from sentinel.health.query import connect, sql
from sentinel.health.schema import DATASETS


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
def test_a_log_without_parts_has_empty_typed_views(tmp_path, dataset):
    """Before anything is written, also before the directory exists, queries find no rows."""
    answer = sql(tmp_path / "not-yet", f"SELECT * FROM {dataset.name}")

    assert answer.num_rows == 0
    for field in dataset.schema:
        assert answer.schema.field(field.name).type == field.type


def test_types_come_back_as_written(story, tmp_path):
    """Times are UTC with microseconds, shapes lists of integers."""
    story.write_story(tmp_path)

    checkpoints = sql(tmp_path, "SELECT * FROM checkpoints").schema
    tensors = sql(tmp_path, "SELECT * FROM tensors").schema

    assert checkpoints.field("judged_at").type == pa.timestamp("us", tz="UTC")
    assert tensors.field("shape").type.value_type == pa.int64()
    assert tensors.field("run_id").type == pa.string()


def test_tensors_of_an_uncommitted_checkpoint_are_not_shown(story, tmp_path):
    """Without the checkpoint's own row its tensors are leftovers of a killed writer."""
    story.write_story(tmp_path)
    part = tmp_path / "checkpoints" / f"run_id={story.RUN}"
    (part / f"{story.row(20).checkpoint_id}.parquet").unlink()

    assert sql(tmp_path, "SELECT * FROM tensors").num_rows == 4


def test_foreign_files_are_ignored(story, tmp_path):
    """Temporary and other files beside the parts do not disturb."""
    story.write_story(tmp_path)
    partition = tmp_path / "tensors" / f"run_id={story.RUN}"
    (partition / ".x.parquet.k2j3.tmp").write_bytes(b"half")
    (partition / "notes.txt").write_text("mine")
    (tmp_path / "tensors" / "readme.parquet").write_bytes(b"not in a partition")

    assert sql(tmp_path, "SELECT * FROM tensors").num_rows == 6


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELEC 1", "Parser Error"),
        ("SELECT nope FROM tensors", '"nope" not found'),
        ("SELECT * FROM nope", "nope does not exist"),
        ("SELECT at, kind FROM events WHERE", '"at" or events.at'),
        ("SELECT tensor::INT FROM tensors", "Could not convert"),
        ("", "answers nothing"),
    ],
)
def test_a_bad_query_is_one_sentence(story, tmp_path, query, reason):
    """The reason is DuckDB's own, on one line, as an error of the call."""
    story.write_story(tmp_path)

    with pytest.raises(ConfigError) as caught:
        sql(tmp_path, query)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_query_reads_and_writes_no_other_file(story, tmp_path):
    """No table function, COPY, ATTACH, extension or setting reaches the disk or the network."""
    story.write_story(tmp_path / "log")
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    new = tmp_path / "new"
    part = next((tmp_path / "log").rglob("*.parquet"))
    tried = [
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM read_text('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT * FROM read_parquet('{part}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"COPY (SELECT 1) TO '{new}'",
        f"COPY (SELECT 1) TO '{part}'",
        f"EXPORT DATABASE '{new}'",
        f"ATTACH '{new}'",
        f"SET temp_directory = '{new}'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET enable_external_access",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "SELECT * FROM secret_table",
    ]
    secret_table = pa.table({"a": [1]})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    for query in tried:
        with pytest.raises(ConfigError):
            sql(tmp_path / "log", query)
        with connect(tmp_path / "log") as connection, pytest.raises(duckdb.Error):
            connection.execute(query).fetchall()

    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert secret_table.num_rows == 1


def test_a_query_leaves_the_working_directory_alone(tmp_path, monkeypatch):
    """A large sort does not spill into the directory the user happens to be in."""
    monkeypatch.chdir(tmp_path)

    sql(
        tmp_path / "log", "SELECT max(r) FROM (SELECT random() AS r FROM range(1000000) ORDER BY r)"
    )

    assert list(Path.cwd().iterdir()) == []
