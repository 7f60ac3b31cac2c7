"""Accepted findings: told, not counted, and no longer accepted once they spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.errors import ConfigError
from sentinel.rules.baseline import ACCEPTED, read_baseline, write_baseline
from sentinel.verdict import Finding


def finding(rule: str = "nan-values", count: int = 3, severity="critical") -> Finding:
    return Finding(rule, severity, f"{count} are NaN", tensor_count=count)


def test_an_accepted_finding_is_information(tmp_path) -> None:
    """It is still told, with a word about the baseline, and no longer counts."""
    file, run = tmp_path / "accepted.json", tmp_path / "out" / "checkpoint-10"

    assert write_baseline(file, [(run, [finding(), finding("x-y", severity="info")])]) == 1
    (told,) = read_baseline(file).applied(run, [finding()])

    assert (told.severity, told.message) == ("info", "3 are NaN" + ACCEPTED)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("out/checkpoint-10", finding(count=4)),
        ("out/checkpoint-20", finding()),
        ("out/checkpoint-10", finding("inf-values")),
    ],
    ids=["it spread", "another checkpoint", "another rule"],
)
def test_what_is_new_counts(tmp_path, where, found) -> None:
    """A fault that spreads, moves or changes is a new one."""
    file = tmp_path / "accepted.json"
    write_baseline(file, [(tmp_path / "out" / "checkpoint-10", [finding()])])

    assert read_baseline(file).applied(tmp_path / where, [found]) == (found,)


def test_it_moves_with_its_runs(tmp_path, monkeypatch) -> None:
    """Paths are relative to the file: a copy of both, or another working directory, is the same."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        (place / "out").mkdir(parents=True)
    monkeypatch.chdir(here)
    write_baseline(Path("accepted.json"), [(Path("out") / "a", [finding()])])
    (here / "accepted.json").rename(there / "accepted.json")

    (told,) = read_baseline(there / "accepted.json").applied(there / "out" / "a", [finding()])
    assert told.severity == "info"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "accepted": [1]}']
)
def test_a_file_that_is_none(tmp_path, text) -> None:
    """One sentence that says how to make one."""
    file = tmp_path / "accepted.json"
    file.write_text(text)

    with pytest.raises(ConfigError, match="is no baseline of sentinel; write it with"):
        read_baseline(file)
