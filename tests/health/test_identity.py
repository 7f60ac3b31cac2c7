from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sentinel.checkpoint import Member
from sentinel.health.identity import checkpoint_id, event_id, new_run_id, require_run_id
from sentinel.health.rows import finding_events
from sentinel.verdict import Finding, Verdict

WEIGHTS = Member("adapter_model.safetensors", "weights", 100, 5, 1, 1)
OPTIMIZER = Member("optimizer.pt", "optimizer", 200, 6, 1, 2)
NAMED = {
    "run_id": "r",
    "attempt": 1,
    "path": "checkpoint-1",
    "members": (WEIGHTS, OPTIMIZER),
    "digests": {WEIGHTS.path: "d1"},
}


def test_a_checkpoint_keeps_its_name_when_told_again():
    """Order of the members, device and inode do not matter: a moved run keeps its names."""
    moved = tuple(replace(member, device=9, inode=9) for member in (OPTIMIZER, WEIGHTS))

    assert checkpoint_id(**NAMED) == checkpoint_id(**{**NAMED, "members": moved})
    assert len(checkpoint_id(**NAMED)) == 32


def test_everything_that_makes_a_checkpoint_another_changes_its_name():
    """Run, attempt, path, sizes, times, digests and the set of members each count."""
    changes = [
        {"run_id": None},
        {"attempt": 2},
        {"path": "checkpoint-2"},
        {"path": "caf\udce9"},
        {"members": (WEIGHTS,)},
        {"members": (replace(WEIGHTS, size_bytes=101), OPTIMIZER)},
        {"members": (replace(WEIGHTS, mtime_ns=7), OPTIMIZER)},
        {"digests": {WEIGHTS.path: "d2"}},
        {"digests": {}},
    ]

    made = {checkpoint_id(**{**NAMED, **change}) for change in changes}

    assert len(made | {checkpoint_id(**NAMED)}) == len(changes) + 1


def test_borders_between_the_parts_count():
    """("a", "bc") and ("ab", "c") are two events."""
    first = event_id(run_id="r", attempt=1, kind="plan", about=("a", "bc"))
    second = event_id(run_id="r", attempt=1, kind="plan", about=("ab", "c"))

    assert first != second


def test_findings_told_again_are_the_same_events():
    """The time of telling does not count, the same rule twice gives two events."""
    verdict = Verdict("faulty", (), (Finding("r", "critical", "m"), Finding("r", "critical", "n")))
    asked = {"run_id": "r", "attempt": 1, "checkpoint_id": "c"}

    first = finding_events(verdict, at=datetime(2026, 1, 1, tzinfo=UTC), **asked)
    again = finding_events(verdict, at=datetime(2026, 1, 2, tzinfo=UTC), **asked)

    assert [event.event_id for event in first] == [event.event_id for event in again]
    assert len({event.event_id for event in first}) == 2


def test_a_new_run_has_a_name_that_is_let_through():
    """Two runs differ, and each name may become a directory."""
    first, second = new_run_id(), new_run_id()

    assert first != second
    assert require_run_id(first) == first
