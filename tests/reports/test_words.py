from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path, PurePosixPath

import pytest

from sentinel.reports.words import moment_words, path_words, remedy_words, run_words


@pytest.mark.parametrize(
    ("remedy", "words"),
    [
        ({}, ""),
        ({"resume": None}, ""),
        ({"resume": {}}, "resume from the last good checkpoint"),
        (
            {"resume": {"precision": "fp32", "cause": "resolution", "optimizer": "drop"}},
            "resume from the last good checkpoint in fp32, without the saved optimizer state",
        ),
        (
            {"resume": {"precision": None, "optimizer": "keep"}},
            "resume from the last good checkpoint with the saved optimizer state",
        ),
        (
            {"resume": {"learning_rate": 0.0001}},
            "resume from the last good checkpoint with learning rate 0.0001",
        ),
        (
            {
                "resume": {
                    "settings": {
                        "optimizer.args.scale_parameter": False,
                        "optimizer.learning_rate": {"between": [1e-4, 3e-4]},
                        "scheduler.name": {"instead_of": "adafactor", "use": "constant"},
                    }
                }
            },
            (
                "resume from the last good checkpoint with optimizer.args.scale_parameter false,"
                " optimizer.learning_rate from 0.0001 to 0.0003,"
                ' scheduler.name "constant" instead of adafactor'
            ),
        ),
        (
            {"resume": {"settings": {"optimizer.learning_rate": {"times": 0.5}}}},
            "resume from the last good checkpoint with optimizer.learning_rate times 0.5",
        ),
        ({"convert_base": "nf4"}, "convert base nf4"),
    ],
)
def test_a_remedy_reads_as_an_order(remedy, words):
    """Known wishes have their own words, unknown ones are told by name."""
    assert remedy_words(remedy) == words


@pytest.mark.parametrize(
    ("path", "base", "words"),
    [
        ("/runs/a/b", "/runs", str(Path("a/b"))),
        ("/runs/a", "/runs/a", "a"),
        ("/other/a", "/runs", str(Path("/other/a"))),
    ],
)
def test_paths_are_told_from_where_was_asked(path, base, words):
    """Relative below the base, by name at it, whole elsewhere."""
    assert path_words(Path(path), Path(base)) == words


def test_a_moment_is_told_by_the_clock_asked_for():
    """The same instant in another zone shows that zone's clock."""
    moment = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)

    assert moment_words(moment, UTC) == "23:30:00"
    assert moment_words(moment, timezone(timedelta(hours=2)), date=True) == "2026-03-02 01:30:00"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/cat/checkpoint-10", "cat"),
        ("/data/cat-resumed/3/checkpoint-10", "cat"),
        ("/data/cat-resumed/best/checkpoint-10", "best"),
        ("/data/ws-resumed/2/backup/2026-01-01_00-00-00-backup-10-0-10", "ws"),
        ("/data/ws/save/cat-10.safetensors", "ws"),
        ("/data/7/checkpoint-10", "7"),
        ("out\x1b/checkpoint-10", "out\\x1b"),
        ("lora.safetensors", ""),
    ],
)
def test_a_run_is_called_by_its_output(path, name):
    """Not by the number of a repair, nor by what a trainer keeps below its output."""
    assert run_words(PurePosixPath(path)) == name
