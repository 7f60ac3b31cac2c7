"""`sentinel scan --log` and `sentinel log`: what was seen is written down and found again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest


def rows(log: Path, dataset: str, *columns: str) -> list[tuple[object, ...]]:
    """Rows as pyarrow alone reads them."""
    table = ds.dataset(log / dataset, partitioning="hive").to_table(columns=list(columns))
    return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True), key=repr)


@pytest.fixture
def log(here, scanned, monkeypatch) -> Path:  # noqa: ARG001 - only the last chdir counts
    """The log of one scan of a directory with one checkpoint of each verdict."""
    monkeypatch.chdir(scanned)
    return scanned / "log"


def test_every_parquet_reader_opens_the_log(log):
    """pyarrow, DuckDB and Polars find the same rows in the files, without sentinel."""
    wanted = rows(log, "checkpoints", "checkpoint_id", "verdict")

    files = str(log / "checkpoints" / "*" / "*.parquet")
    query = f"SELECT checkpoint_id, verdict FROM read_parquet('{files}', hive_partitioning = true)"
    by_duckdb = sorted(duckdb.sql(query).fetchall(), key=repr)
    scanned = pl.scan_parquet(log / "checkpoints", hive_partitioning=True)
    by_polars = sorted(scanned.select("checkpoint_id", "verdict").collect().rows(), key=repr)

    assert len(wanted) == 4
    assert by_duckdb == wanted
    assert by_polars == wanted


def test_scanning_again_leaves_the_same_rows(sentinel, log):
    """Names come from what was seen: a repeat overwrites its own rows and adds none."""
    key = ("checkpoints", "run_id", "attempt", "seq", "checkpoint_id", "parent", "path", "verdict")
    tensors = ("tensors", "checkpoint_id", "tensor", "digest", "nan_count")
    events = ("events", "event_id", "rule", "message")
    before = [rows(log, *what) for what in (key, tensors, events)]

    sentinel("scan", ".", "--log", "log")

    assert [rows(log, *what) for what in (key, tensors, events)] == before
    assert all(before)


def test_the_report_names_the_rows(sentinel, tree):
    """run, attempt and checkpoint_id of the JSON are those of the log."""
    report = json.loads(sentinel("scan", ".", "--log", "log", "--format", "json").out)

    told = [(one["run"], one["attempt"], one["checkpoint_id"]) for one in report["checkpoints"]]

    found = rows(tree / "log", "checkpoints", "run_id", "attempt", "checkpoint_id")
    assert sorted(told, key=repr) == found


def test_paths_in_the_log_are_whole(log):
    """The log is read elsewhere and later: a relative path would say nothing there."""
    assert all(Path(path).is_absolute() for (path,) in rows(log, "checkpoints", "path"))


def test_all_runs(sentinel, log):
    """One line a run, with the last verdict and where it lies."""
    ran = sentinel("log", "--log", log)

    (line,) = [line for line in ran.out.splitlines() if "out/checkpoint-40" in line]
    assert "faulty" in line
    assert "step 40, 2 checkpoints, 1 faulty" in line
    assert (ran.code, ran.err, ran.out.count("\n")) == (0, "", 3)


def test_one_run_by_its_directory_or_the_beginning_of_its_name(sentinel, log):
    """Each names the same run, and what happened is told in order."""
    runs = [
        json.loads(one)
        for one in sentinel("log", "--log", log, "--format", "json").out.split("\n")
        if one
    ]
    (name,) = [run["run"] for run in runs if run["last_path"].endswith("checkpoint-40")]

    told = {what: sentinel("log", what, "--log", log) for what in ("out", "out/", name)}

    first, *others = {ran.out for ran in told.values()}
    assert others == []
    healthy, faulty = first.splitlines()
    assert "healthy" in healthy
    assert "out/checkpoint-20" in healthy
    assert "nan-values" in faulty


def test_one_run_for_programs(sentinel, log):
    """The same story as JSON lines and as CSV."""
    by_json = [
        json.loads(line)
        for line in sentinel("log", "out", "--log", log, "--format", "json").out.splitlines()
    ]
    text = sentinel("log", "out", "--log", log, "--format", "csv").out
    by_csv = list(csv.DictReader(io.StringIO(text)))

    assert [(one["step"], one["kind"]) for one in by_json] == [(20, "healthy"), (40, "faulty")]
    assert [row["says"] for row in by_csv] == [one["says"] for one in by_json]


QUERY = "SELECT step, verdict, size_bytes / 0 AS nothing, usable FROM checkpoints ORDER BY path"


def test_sql_as_text(sentinel, log):
    """Columns stand below their names, each row on one whole line."""
    ran = sentinel("log", "--log", log, "--sql", QUERY)

    head, *lines = ran.out.splitlines()
    assert head.split() == ["step", "verdict", "nothing", "usable"]
    assert [line.split()[:2] for line in lines][:2] == [["60", "unreadable"], ["20", "healthy"]]
    assert ran.code == 0


def test_sql_as_json(sentinel, log):
    """One object a line; what JSON cannot say is text, a sum of whole numbers is a number."""
    query = "SELECT sum(step) AS steps, 'nan'::DOUBLE AS odd, NULL AS none FROM checkpoints"

    ran = sentinel("log", "--log", log, "--format", "json", "--sql", query)

    assert ran.out == '{"steps": 120, "odd": "nan", "none": null}\n'


def test_sql_as_csv(sentinel, log):
    """A line of names, NULL as nothing, lists as JSON, and nothing that steers a terminal."""
    query = "SELECT 1 AS a, NULL AS b, ['x', 'y'] AS c, chr(27) || '[2J' AS d, true AS a"

    ran = sentinel("log", "--log", log, "--format", "csv", "--sql", query)

    assert ran.out == 'a,b,c,d,a\n1,,"[""x"", ""y""]",\\x1b[2J,true\n'


@pytest.mark.parametrize(("form", "says"), [("text", "x\n"), ("json", ""), ("csv", "x\n")])
def test_an_answer_without_rows(sentinel, log, form, says):
    """No row is an answer too."""
    query = "SELECT 1 AS x WHERE false"

    assert sentinel("log", "--log", log, "--format", form, "--sql", query).out == says


@pytest.mark.parametrize(
    "query",
    [
        "SELEC 1",
        "SELECT stp FROM checkpoints",
        "SELECT * FROM nothing",
        "COPY checkpoints TO 'stolen.csv'",
        "SELECT * FROM read_csv('sentinel.yaml')",
        "SET enable_external_access = true",
        "",
    ],
)
def test_sql_that_cannot_be_answered_is_one_line(sentinel, log, query):
    """DuckDB's reason on one line, exit code 2, and no way to a file."""
    ran = sentinel("log", "--log", log, "--sql", query)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("sentinel: query")
    assert ran.err.count("\n") == 1
    assert not Path("stolen.csv").exists()


def test_a_log_that_does_not_exist_yet(sentinel, here):
    """Nothing is made, and it is no error to ask too early."""
    ran = sentinel("log", "--log", "nothing")

    assert (ran.code, ran.out) == (0, "")
    assert "no run in the health log" in ran.err
    assert not (here / "nothing").exists()
