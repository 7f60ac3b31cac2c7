"""Which log belongs to a checkpoint: never a later step's, another attempt's or another run's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sentinel.formats.logs.attempts import OLD_S, leading_to
from sentinel.formats.logs.entry import Entry, Log

STEP_S = 60.0
"""How long a step takes in these logs."""


def log(
    steps: Iterable[int],
    began_s: float | None = 0.0,
    *,
    value: float = 1.0,
    place: str = "runs/a",
    modified_s: float | None = None,
    is_all: bool = True,
) -> Log:
    """A log of one loss a step; without ``began_s`` its entries have no times."""
    entries: list[Entry] = []
    for number, step in enumerate(steps):
        at_s = None if began_s is None else began_s + number * STEP_S
        entries.append(Entry(step, "loss", value, at_s))
    last_s = entries[-1].at_s
    if modified_s is None:
        modified_s = 0.0 if last_s is None else last_s
    return Log(Path(place) / "events", tuple(entries), modified_s, is_all)


def found(*logs: Log, step: int | None, written_s: float) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in leading_to(logs, step, written_s)]


def test_later_steps_are_left_out() -> None:
    assert found(log(range(1, 101)), step=40, written_s=40 * STEP_S)[-1] == (40, 1.0)


def test_a_log_that_stops_long_before_is_of_another_run() -> None:
    """A gap no longer than one between its entries is its interval."""
    logs = log(range(10, 101, 10), 0.0)

    assert found(logs, step=109, written_s=700.0)
    assert not found(logs, step=200, written_s=700.0)


def test_an_old_log_that_passed_the_step_is_of_another_run() -> None:
    """It was there before the checkpoint was."""
    old = log(range(1, 501))

    assert not found(old, step=300, written_s=500 * STEP_S + 3600)
    assert found(old, step=300, written_s=300 * STEP_S + 60)


def test_a_log_that_ended_a_day_before_is_of_another_run() -> None:
    logs = log(range(1, 301))

    assert not found(logs, step=300, written_s=300 * STEP_S + OLD_S + 1)


def test_times_of_copied_files_tell_nothing() -> None:
    """A tree that was copied as a whole a week later is as good as it was."""
    copied = log(range(1, 501), modified_s=1e6)

    assert found(copied, step=300, written_s=1e6)[-1] == (300, 1.0)


def test_a_resumed_run_goes_on_from_its_checkpoint() -> None:
    """Steps 201 to 300 of the first attempt were made again: the second attempt's count."""
    first = log(range(1, 301), 0.0, value=1.0, place="runs/a")
    second = log(range(201, 401), 1e5, value=2.0, place="runs/b")

    entries = found(second, first, step=400, written_s=1e5 + 200 * STEP_S)

    assert [one for one in entries if one[0] in {1, 200, 201, 300, 400}] == [
        (1, 1.0),
        (200, 1.0),
        (201, 2.0),
        (300, 2.0),
        (400, 2.0),
    ]


def test_an_earlier_attempts_checkpoint_keeps_its_own_numbers() -> None:
    """What the second attempt logged at the same steps came later than the checkpoint."""
    first = log(range(1, 301), 0.0, value=1.0)
    second = log(range(201, 401), 1e5, value=float("nan"))

    assert found(first, second, step=300, written_s=300 * STEP_S)[-1] == (300, 1.0)


def test_a_fresh_start_takes_nothing_of_the_run_before() -> None:
    before = log(range(1, 301), 0.0, value=1.0)
    fresh = log(range(10, 201, 10), 1e5, value=2.0)

    entries = found(before, fresh, step=100, written_s=1e5 + 10 * STEP_S)

    assert entries == [(step, 2.0) for step in range(10, 101, 10)]


def test_runs_at_the_same_time_are_told_apart_or_not_at_all() -> None:
    """Two that fit make the log unknown; where only one reached the step it is that one."""
    one = log(range(1, 101), 0.0, place="runs/a")
    other = log(range(1, 101), 30.0, place="runs/b", value=2.0)
    short = log(range(1, 31), 30.0, place="runs/c", value=3.0)

    assert not found(one, other, step=50, written_s=50 * STEP_S)
    assert found(one, short, step=60, written_s=60 * STEP_S)[-1] == (60, 1.0)


def test_a_file_in_which_the_step_goes_back_holds_two_attempts() -> None:
    """Without times the last one that fits counts, with what it resumed from."""
    steps = [*range(1, 31), *range(21, 41)]
    values = [1.0] * 30 + [2.0] * 20
    entries = tuple(
        Entry(step, "loss", value, None) for step, value in zip(steps, values, strict=True)
    )
    logs = Log(Path("trainer_log.jsonl"), entries, 1000.0, is_all=True)

    assert found(logs, step=40, written_s=1000.0) == [
        *((step, 1.0) for step in range(1, 21)),
        *((step, 2.0) for step in range(21, 41)),
    ]


def test_a_checkpoint_without_a_step_takes_what_came_before_it() -> None:
    timed = log(range(1, 101))
    untimed = log(range(1, 101), None, modified_s=6000.0)

    assert found(timed, step=None, written_s=100 * STEP_S)[-1] == (100, 1.0)
    assert found(untimed, step=None, written_s=6000.0)[-1] == (100, 1.0)
    assert not found(untimed, step=None, written_s=1000.0)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 50), min_size=1, max_size=20),
            st.one_of(st.none(), st.floats(0, 5000)),
            st.floats(0, 9000),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.one_of(st.none(), st.integers(0, 60)),
    st.floats(0, 9000),
)
def test_no_entry_is_ever_of_a_later_step(
    drawn: list[tuple[list[int], float | None, float, bool]], step: int | None, written_s: float
) -> None:
    """Whatever lies there: in order, each name once a step, none beyond the checkpoint."""
    logs = [
        log(steps, began_s, modified_s=modified_s, is_all=is_all)
        for steps, began_s, modified_s, is_all in drawn
    ]
    steps = [one.step for one in leading_to(logs, step, written_s)]

    assert steps == sorted(set(steps))
    assert step is None or all(at <= step for at in steps)
