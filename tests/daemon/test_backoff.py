"""What must hold of the pause between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentinel.daemon.backoff import pause_s

CHANCES = st.floats(0, 1)


def test_it_doubles_up_to_the_most():
    """Two seconds, four, eight, and never more than a minute."""
    pauses = [pause_s(n, first_s=2.0, most_s=60.0, chance=lambda: 0.0) for n in range(1, 9)]

    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


@given(st.integers(1, 10**6), st.floats(0.01, 1e4), st.floats(0.01, 1e4), CHANCES, CHANCES)
def test_it_grows_and_is_never_more_than_the_most(failures, first_s, most_s, one, other):
    """Whatever the chance: within a fifth below the doubled pause, and within the cap."""
    pause = pause_s(failures, first_s=first_s, most_s=most_s, chance=lambda: one)
    later = pause_s(failures + 1, first_s=first_s, most_s=most_s, chance=lambda: other)

    assert 0 < pause <= most_s
    assert later >= 0.8 * pause
