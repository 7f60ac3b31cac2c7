"""No verdict before a checkpoint is settled, and always one after nobody writes any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sentinel.daemon.settle import Pending, Settled, Settling, settle_wait_s

SETTLE_S = 2.0
TORN_AFTER_S = 15.0
PATH = Path("checkpoint-1")
ONE = (("adapter_model.safetensors", 1, 1, 100, 1),)
OTHER = (("adapter_model.safetensors", 1, 1, 200, 2),)
NS = 1_000_000_000


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settling(clock: Clock) -> Settling:
    return Settling(settle_s=SETTLE_S, torn_after_s=TORN_AFTER_S, clock=clock)


def test_completion_mark_settles_at_once(settling):
    """A whole checkpoint with its layout's mark is not waited for."""
    assert Settled() == settling.look(PATH, identity=ONE, whole=True, complete=True)


def test_close_settles_at_once(settling):
    """A whole checkpoint that its writer closed is not waited for."""
    assert Settled() == settling.look(PATH, identity=ONE, whole=True, complete=None, closed=True)


def test_close_is_remembered(settling):
    """A close seen while the bytes were not whole still counts while nothing changes."""
    settling.look(PATH, identity=ONE, whole=False, complete=None, closed=True)

    assert Settled() == settling.look(PATH, identity=ONE, whole=True, complete=None)


def test_close_ends_with_the_next_change(settling):
    """A close says nothing about what was written after it."""
    settling.look(PATH, identity=ONE, whole=True, complete=None, closed=True)

    state = settling.look(PATH, identity=OTHER, whole=True, complete=None)

    assert Pending("changed a moment ago", SETTLE_S) == state


def test_unchanged_long_enough(settling, clock):
    """Without mark or close, a whole checkpoint settles after the settling time, not before."""
    first = settling.look(PATH, identity=ONE, whole=True, complete=None)
    clock.now_s += SETTLE_S - 0.5
    second = settling.look(PATH, identity=ONE, whole=True, complete=None)
    clock.now_s += 0.5

    assert Pending("changed a moment ago", SETTLE_S) == first
    assert Pending("changed a moment ago", 0.5) == second
    assert Settled() == settling.look(PATH, identity=ONE, whole=True, complete=None)


@pytest.mark.parametrize(
    ("whole", "complete", "reason", "settled"),
    [
        (False, None, "its bytes are not whole", Settled(torn=True)),
        (False, True, "its bytes are not whole", Settled(torn=True)),
        (False, False, "its bytes are not whole", Settled(torn=True, incomplete=True)),
        (True, False, "its completion mark is missing", Settled(incomplete=True)),
    ],
)
def test_what_is_never_finished(whole, complete, reason, settled):
    """A torn or markless checkpoint is given up only after the long time, close or none."""
    clock = Clock()
    settling = Settling(settle_s=SETTLE_S, torn_after_s=TORN_AFTER_S, clock=clock)

    def look() -> Settled | Pending:
        return settling.look(PATH, identity=ONE, whole=whole, complete=complete, closed=True)

    assert look() == Pending(reason, SETTLE_S)
    clock.now_s += TORN_AFTER_S - 0.5
    assert look() == Pending(reason, 0.5)
    clock.now_s += 0.5
    assert look() == settled


def test_forgotten(settling, clock):
    """A checkpoint put back to settling starts from nothing."""
    settling.look(PATH, identity=ONE, whole=True, complete=None, closed=True)
    clock.now_s += TORN_AFTER_S
    settling.forget(PATH)
    settling.forget(PATH)

    state = settling.look(PATH, identity=ONE, whole=True, complete=None)

    assert Pending("changed a moment ago", SETTLE_S) == state


def test_checkpoints_are_apart(settling, clock):
    """What is known of one checkpoint says nothing about another."""
    settling.look(PATH, identity=ONE, whole=True, complete=None, closed=True)
    clock.now_s += SETTLE_S

    state = settling.look(Path("checkpoint-2"), identity=ONE, whole=True, complete=None)

    assert isinstance(state, Pending)


class Writing(RuleBasedStateMachine):
    """A writer changes, completes and closes a checkpoint; somebody looks now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.settling = Settling(settle_s=SETTLE_S, torn_after_s=TORN_AFTER_S, clock=self.clock)
        self.version = 0
        self.whole = False
        self.complete: bool | None = None
        self.closed = False
        self.seen_version = -1
        self.seen_since_s = 0.0
        self.closed_version = -1

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule(whole=st.booleans(), complete=st.sampled_from([None, False, True]))
    def write(self, whole: bool, complete: bool | None) -> None:  # noqa: FBT001 - hypothesis
        self.version += 1
        self.whole, self.complete, self.closed = whole, complete, False

    @rule()
    def close(self) -> None:
        self.closed = True

    @precondition(lambda self: self.version > 0)
    @rule()
    def forget(self) -> None:
        self.settling.forget(PATH)
        self.seen_version = self.closed_version = -1

    @rule()
    def look(self) -> None:
        """Never settled before one of the laws says so."""
        state = self._look()
        quiet_s = self.clock.now_s - self.seen_since_s
        if isinstance(state, Pending):
            assert state.again_in_s > 0
            return
        assert state.torn == (not self.whole)
        assert state.incomplete == (self.complete is False)
        if state != Settled():
            assert quiet_s >= TORN_AFTER_S
        else:
            closed = self.closed_version == self.version
            assert self.complete or closed or quiet_s >= SETTLE_S

    @invariant()
    def settles_when_nothing_changes(self) -> None:
        """Whoever comes back when told to ends up settled, without asking too often."""
        settling, now_s = Settling(clock=self.clock), self.clock.now_s
        looks = 0
        while isinstance(state := self._look(settling), Pending):
            self.clock.now_s += state.again_in_s
            looks += 1
            assert looks <= TORN_AFTER_S / SETTLE_S + 2
        self.clock.now_s = now_s

    def _look(self, settling: Settling | None = None) -> Settled | Pending:
        if settling is None:
            if self.seen_version != self.version:
                self.seen_version, self.seen_since_s = self.version, self.clock.now_s
            if self.closed:
                self.closed_version = self.version
            settling = self.settling
        return settling.look(
            PATH,
            identity=(("file", 1, 1, self.version, self.version),),
            whole=self.whole,
            complete=self.complete,
            closed=self.closed,
        )


TestWriting = Writing.TestCase


@pytest.mark.parametrize(
    ("age_s", "complete", "wait_s"),
    [
        (0.0, None, SETTLE_S),
        (0.5, None, 1.5),
        (SETTLE_S, None, 0.0),
        (86400.0, None, 0.0),
        (0.0, True, 0.0),
        (0.5, False, 1.5),
        (-86400.0, None, SETTLE_S),
    ],
)
def test_settle_wait(age_s, complete, wait_s):
    """A scan waits for what is younger than the settling time, and for nothing older."""
    now_ns = 1_700_000_000 * NS

    waited = settle_wait_s(now_ns - int(age_s * NS), now_ns, complete=complete, settle_s=SETTLE_S)

    assert wait_s == waited


@given(
    st.integers(0, 2**63),
    st.integers(0, 2**63),
    st.sampled_from([None, False, True]),
    st.floats(0, 60),
)
def test_settle_wait_is_bounded(newest_ns, now_ns, complete, settle_s):
    """No clock can make a scan wait longer than the settling time, or a negative time."""
    waited = settle_wait_s(newest_ns, now_ns, complete=complete, settle_s=settle_s)

    assert 0 <= waited <= settle_s
