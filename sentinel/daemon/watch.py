"""`sentinel watch`: judge what arrives below some directories, beside trainers of any kind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from sentinel.checkpoint import path_text
from sentinel.daemon.arrivals import Arrivals
from sentinel.daemon.inspector import Inspector
from sentinel.daemon.recording import Outcome
from sentinel.errors import ConfigError
from sentinel.verdict import LEVELS, Level

Listener = Callable[[Outcome], None]


class Beside(Protocol):
    """Something that is looked after between the verdicts and waits for nothing itself."""

    def next_look_s(self) -> float | None:
        """Return in how many seconds it wants to work, None when nothing is due."""

    def work(self) -> None:
        """Do what is due."""

    def finish(self) -> None:
        """Bring what is under way to its end."""


class Watch:
    """The watch loop: wait, judge, tell; it ends by a signal or, with ``once``, by itself.

    ``at_rest`` wait for what goes on beside the judging; they are called before an end by itself.
    What goes on ``beside`` the judging is brought to its end before that.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        inspector: Inspector,
        arrivals: Arrivals,
        listener: Listener,
        verdict_timeout_s: float,
        at_rest: Sequence[Callable[[], None]] = (),
        beside: Sequence[Beside] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roots = tuple(roots)
        self._inspector = inspector
        self._arrivals = arrivals
        self._listener = listener
        self._verdict_timeout_s = verdict_timeout_s
        self._at_rest = tuple(at_rest)
        self._beside = tuple(beside)
        self._clock = clock
        self._stopped = False

    @property
    def reading(self) -> Path | None:
        """Return the checkpoint whose values are being read just now; for any thread."""
        return self._inspector.reading

    @property
    def pending(self) -> int:
        """Return how many checkpoints wait for their verdict; for any thread."""
        return self._inspector.pending

    def run(self, *, once: bool) -> Level:
        """Judge until stopped (or, with ``once``, until nothing waits); return the worst level.

        A checkpoint that got no verdict counts as unreadable. With ``once``, raises ConfigError
        for a directory that is not there and StateError when no verdict can be written.
        """
        worst: Level = "healthy"
        with self._stopping_signals():
            for level in self._once() if once else self._forever():
                worst = _worse(worst, level)
            for one in self._beside:
                one.finish()
        return _worse(worst, "unreadable") if self._inspector.unjudged else worst

    def _forever(self) -> Iterator[Level]:
        while not self._stopped:
            yield from self._turn()

    def _once(self) -> Iterator[Level]:
        for root in self._roots:
            if not os.path.lexists(root):
                raise ConfigError(
                    "directory",
                    where=f"'{path_text(root)}'",
                    fact="does not exist",
                    todo="check its spelling",
                )
        deadline = self._clock() + self._verdict_timeout_s
        while not self._stopped:
            yield from self._turn()
            if self._inspector.refusal is not None:
                raise self._inspector.refusal
            if not self._inspector.pending or self._clock() > deadline:
                for finish in self._at_rest:
                    finish()
                return

    def _turn(self) -> Iterator[Level]:
        """Wait for the next thing to do, and judge what is due."""
        looks = [self._inspector.next_look_s(), *(one.next_look_s() for one in self._beside)]
        wait_s = min((look_s for look_s in looks if look_s is not None), default=None)
        look_for_new(self._inspector, self._arrivals, self._roots, wait_s)
        for outcome in self._inspector.work():
            self._listener(outcome)
            yield outcome.judged.level
            if self._stopped:
                return
        for one in self._beside:
            one.work()

    @contextmanager
    def _stopping_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop after the checkpoint in hand; a second one at once."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True
            self._arrivals.wake()

        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def look_for_new(
    inspector: Inspector, arrivals: Arrivals, roots: Sequence[Path], timeout_s: float | None
) -> None:
    """Wait until something may be new below the roots, and have the inspector note what is."""
    arrived = arrivals.take(timeout_s)
    before_s = time.thread_time()
    inspector.arrived(arrived, roots)
    arrivals.looked(arrived, time.thread_time() - before_s)


def _worse(one: Level, other: Level) -> Level:
    return max(one, other, key=LEVELS.index)
