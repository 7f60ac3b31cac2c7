"""Threads change when things are done, never what comes out."""

from __future__ import annotations

import itertools
import operator
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.engines.local import cores, map_threads, share_threads


@given(st.lists(st.integers(), max_size=30), st.integers(-1, 5))
def test_same_as_map(items, jobs):
    """Whatever the number of jobs, the results are those of `map`, in order."""
    assert [-item for item in items] == list(map_threads(operator.neg, items, jobs))


def test_jobs_run_at_once():
    """Two jobs meet: each waits for the other."""
    meeting = threading.Barrier(2, timeout=20)

    assert {0, 1} == set(map_threads(lambda _: meeting.wait(), range(2), jobs=2))


def test_endless_items():
    """Items are drawn only a little ahead of the reader."""
    drawn = itertools.count()

    first = list(itertools.islice(map_threads(operator.neg, drawn, jobs=3), 5))

    assert first == [0, -1, -2, -3, -4]
    assert next(drawn) < 12


@pytest.mark.parametrize("jobs", [1, 3])
def test_error_in_its_turn(jobs):
    """Results before an error are delivered, then the error, then nothing more is begun."""
    begun: list[int] = []

    def divide(number: int) -> float:
        begun.append(number)
        return 1 / number

    results = map_threads(divide, [2, 1, 0, *range(1, 1000)], jobs)

    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 20


@given(st.lists(st.integers(), max_size=30), st.integers(-1, 5))
def test_shared_work_is_the_same_as_map(items, jobs):
    """Whoever does which piece, the results are those of `map`, in order."""
    assert [-item for item in items] == share_threads(operator.neg, items, jobs)


def test_shared_work_is_done_at_once():
    """The calling thread and another meet: each waits for the other."""
    meeting = threading.Barrier(2, timeout=20)

    assert {0, 1} == set(share_threads(lambda _: meeting.wait(), range(2), jobs=2))


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_ends_shared_work(jobs):
    """Whose piece fails raises in the calling thread, and what has not begun never does."""
    begun = []

    def divide(number):
        begun.append(number)
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        share_threads(divide, [2, 0, *itertools.repeat(1, 100_000)], jobs)
    assert len(begun) < 100_000


def test_cores_know_the_quota_of_a_container(tmp_path):
    """The tightest quota of the groups a process is in, rounded up; never none at all."""
    membership = tmp_path / "cgroup"
    membership.write_text("0::/job/step\n", encoding="ascii")
    inner = tmp_path / "root" / "job" / "step"
    inner.mkdir(parents=True)
    known = cores(tmp_path / "nowhere", tmp_path / "none")

    for own, above, wanted in (("max", "max", known), ("50000", "max", 1), ("max", "10000", 1)):
        (inner / "cpu.max").write_text(f"{own} 100000\n", encoding="ascii")
        (inner.parent / "cpu.max").write_text(f"{above} 100000\n", encoding="ascii")
        assert cores(tmp_path / "root", membership) == wanted


def test_cores_know_the_quota_of_the_first_version(tmp_path):
    group = tmp_path / "cpu"
    group.mkdir()
    (group / "cpu.cfs_quota_us").write_text("90000\n", encoding="ascii")
    (group / "cpu.cfs_period_us").write_text("100000\n", encoding="ascii")

    assert cores(tmp_path, tmp_path / "none") == 1
