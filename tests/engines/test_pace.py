"""Reading no faster than allowed, by a clock that only resting moves on."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from sentinel.engines.pace import Pace

RATE = 1000


class Clock:
    """Time that passes while somebody reads or rests."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s

    def rest(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 4)), max_size=40))
def test_no_more_is_read_than_was_allowed(reads):
    """Over any readings, however far apart: the rate times the time, and a second's worth."""
    clock = Clock()
    pace = Pace(RATE, clock=clock, rest=clock.rest)
    read = 0
    for size_bytes, took_s in reads:
        clock.now_s += took_s
        pace.took(size_bytes)
        read += size_bytes
        allowed = RATE * (clock.now_s - 50.0 + 1.0 + 0.01)
        assert read <= allowed + 1e-6


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40))
def test_no_longer_is_rested_than_needed(sizes):
    """A reader that needs no time of its own gets what was allowed."""
    clock = Clock()
    pace = Pace(RATE, clock=clock, rest=clock.rest)
    for size_bytes in sizes:
        pace.took(size_bytes)

    assert clock.now_s - 50.0 <= sum(sizes) / RATE


def test_it_goes_to_the_process_that_reads():
    """It is sent with each call."""
    assert pickle.loads(pickle.dumps(Pace(RATE).took)).__self__ == Pace(RATE)
