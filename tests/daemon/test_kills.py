"""What must hold after `kill -9` of sentinel at any step of its journal: as if nothing had been.

Nothing half made lies under a real name, nothing is done twice, nothing is forgotten, and the
training it guards is never harmed.
"""

from __future__ import annotations

import os
import signal

import duckdb
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")

RUN_COMMITS = 30
"""More than the commits of the run below; a number beyond the last one never kills."""

WATCH_COMMITS = 14


def _trainer(bench):
    return bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "40", "--pace-s", "0.3")


def _end_state(bench) -> dict[str, object]:
    """What the run left behind, as far as it must not depend on a kill."""
    attempts = bench.journal().attempts(bench.run_id)
    log = bench.log()
    return {
        "steps": bench.steps(),
        "attempts": [attempt.attempt for attempt in attempts],
        "precisions": [attempt.plan["precision"] for attempt in attempts if attempt.plan],
        "parents": [_step_of(log, attempt.parent) for attempt in attempts],
        "quarantined": "checkpoint-30" in bench.quarantined(),
        "plans": len([event for event in log.events if event.kind == "plan"]),
        "healthy": [row.step for row in log.checkpoints if row.attempt == 2],
    }


def _step_of(log, checkpoint_id):
    return next((row.step for row in log.checkpoints if row.checkpoint_id == checkpoint_id), None)


UNDISTURBED = {
    "steps": [10, 20, 30, 40],
    "attempts": [1, 2],
    "precisions": ["fp32"],
    "parents": [None, 20],
    "quarantined": True,
    "plans": 1,
    "healthy": [30, 40],
}


def test_the_undisturbed_run_is_what_kills_are_compared_with(bench):
    """Without a kill the run ends as stated, and the kill tests reach every commit of it."""
    ran = bench.run(*bench.arguments(trainer=_trainer(bench)))

    assert ran.code == 0, ran.err
    assert _end_state(bench) == UNDISTURBED
    assert ran.commits <= RUN_COMMITS


@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(number, when, marks=[] if number % 4 == 0 else [pytest.mark.slow])
        for when in ("before", "after")
        for number in range(1, RUN_COMMITS + 1)
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(bench, number, when):
    """Killed at a journal write, the same command again ends where it would have ended."""
    killed = bench.run(*bench.arguments(trainer=_trainer(bench)), kill_at=number, when=when)
    if killed.code == 0:
        pytest.skip(f"the run has fewer than {number} commits")
    assert killed.code == -signal.SIGKILL
    finished = _finished(bench)

    again = bench.run(*bench.arguments(trainer=_trainer(bench)))

    assert again.code == 0, again.err
    assert not (bench.place / "two-trainers-at-once").exists()
    assert bench.living_trainers() == []
    if finished or _ended_unseen(bench):
        # Killed after the end was written down, or the trainer ended by itself while sentinel
        # was dead: there was nothing left to go on with, and the command was begun anew.
        assert bench.steps() == [10, 20, 30, 40]
        return
    assert _end_state(bench) == UNDISTURBED
    rows = duckdb.sql(
        f"SELECT count(*), count(DISTINCT checkpoint_id)"
        f" FROM '{bench.state}/health/checkpoints/**/*.parquet'"
    ).fetchall()[0]
    assert rows[0] == rows[1]


def _finished(bench) -> bool:
    journal = bench.journal()
    last = [journal.last_attempt(run_id) for run_id in journal.runs()]
    return any(attempt is not None and attempt.outcome == "ended" for attempt in last)


def _ended_unseen(bench) -> bool:
    return any(attempt.outcome == "lost" for attempt in bench.journal().attempts(bench.run_id))


@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(number, when, marks=[] if number % 3 == 0 else [pytest.mark.slow])
        for when in ("before", "after")
        for number in range(1, WATCH_COMMITS + 1)
    ],
)
def test_a_killed_watch_judges_each_checkpoint_once(bench, number, when):
    """Killed at any write and started again: every checkpoint has one verdict, in one row."""
    seed = bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "30", "--pace-s", "0")
    bench.run_plain(seed)
    arguments = ("watch", "--once", "--state", str(bench.state), str(bench.out))
    bench.run(*arguments, kill_at=number, when=when)

    again = bench.run(*arguments)
    third = bench.run(*arguments)

    assert again.code in (0, 1)
    assert third.out == ""
    rows = bench.log().checkpoints
    assert [(row.step, row.verdict) for row in rows] == [
        (10, "healthy"),
        (20, "healthy"),
        (30, "faulty"),
    ]
    assert [row.seq for row in rows] == [1, 2, 3]
