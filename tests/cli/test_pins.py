"""`sentinel pins`: what is kept is listed, checked on demand, and dropped when told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.daemon.journal import Journal
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.pin_copy import Source, files_of, take
from sentinel.repairs.pins import Pin, PinStore


@pytest.fixture
def pins(here: Path, saves) -> list[Pin]:
    """Two pins of one run and one of another, in a state directory `state`."""
    journal = Journal(here / "state" / "journal.sqlite")
    store = PinStore(here / "state" / "pins")
    made = []
    for number, (root, step) in enumerate([("one", 10), ("one", 20), ("two", 10)]):
        path = saves.folder(here / root / f"checkpoint-{step}", step)
        source = Source.of(
            open_checkpoint(path),
            run_id=journal.bind_run((here / root,)),
            attempt=1,
            checkpoint_id=f"{number}abcdef0",
            seq=step,
        )
        made.append(take(store, source, files_of(source), stopped=lambda: False))
    journal.close()
    return made


def told(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_all_are_listed_with_where_they_lie(sentinel, pins):
    """One object a pin: ids, step, size, where it was and where the copy lies."""
    rows = told(sentinel("pins", "--state", "state", "--format", "json").out)

    assert {row["path"] for row in rows} == {str(pin.path) for pin in pins}
    first = next(row for row in rows if row["pin"] == "0abcdef0")
    assert first["step"] == 10
    assert first["size"] == pins[0].size_bytes
    assert first["source"] == pins[0].manifest.source


def test_text_is_a_line_a_pin(sentinel, pins):
    """In a pipe: short ids, the step and both places."""
    lines = sentinel("pins", "--state", "state").out.splitlines()

    assert len([line for line in lines if "checkpoint-" in line]) == len(pins)


@pytest.mark.parametrize("name", ["one", "RUN"])
def test_a_run_is_named_by_its_directory_or_its_id(sentinel, pins, name):
    """Both ways give the two pins of the one run."""
    name = pins[0].manifest.run_id[:8] if name == "RUN" else name
    rows = told(sentinel("pins", name, "--state", "state", "--format", "json").out)

    assert [row["pin"] for row in rows] == ["0abcdef0", "1abcdef0"]


def test_dropping_one_leaves_the_others(sentinel, pins):
    """By the beginning of its id; the line says which it was."""
    ran = sentinel("pins", "--drop", "1ab", "--state", "state")

    assert ran.code == 0
    assert pins[1].manifest.source in ran.err
    assert [pin.place.exists() for pin in pins] == [True, False, True]


def test_dropping_all_must_be_said(sentinel, pins):
    """Without a name nothing is dropped, unless all are meant."""
    ran = sentinel("pins", "--drop", "--state", "state")
    assert (ran.code, "none is named" in ran.err) == (2, True)
    assert all(pin.place.exists() for pin in pins)

    assert sentinel("pins", "--drop", "--all", "--state", "state").code == 0
    assert not any(pin.place.exists() for pin in pins)
    assert "nothing is pinned" in sentinel("pins", "--state", "state").err


def test_a_damaged_pin_is_found(sentinel, pins):
    """--check reads every byte; without it a listing reads none."""
    (pins[0].path / "adapter_config.json").write_text("{}")
    assert sentinel("pins", "--state", "state").code == 0

    ran = sentinel("pins", "--check", "--state", "state")

    assert ran.code == 1
    assert "adapter_config.json' is not what was pinned" in ran.err
    assert sentinel("pins", "two", "--check", "--state", "state").code == 0


def test_a_name_that_stands_for_nothing_is_said(sentinel, pins):  # noqa: ARG001 - lies there
    """A misspelt name must not pass for "no pins"."""
    ran = sentinel("pins", "three", "--state", "state")

    assert ran.code == 2
    assert "pin 'three': is not pinned" in ran.err
