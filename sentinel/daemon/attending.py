"""What the supervisor does while it waits: look at arrivals, judge what is due, hear signals."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sentinel.daemon.arrivals import Arrivals, Arrived
from sentinel.daemon.inspector import Inspector, Outcome
from sentinel.daemon.reading import Read, Reader
from sentinel.daemon.watch import look_for_new

_EVERYTHING = Arrived(dirty=frozenset(), closed=frozenset(), rescan=True)


class _Interrupted(BaseException):
    """A signal came in the middle of a reading; no `except Exception` may keep it."""


class InterruptibleReader:
    """A reader whose reading a signal may end, in the thread that hears signals.

    Only the reading: it alone takes long, and nothing of it is kept.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._reading = False

    def call(self, fn: Callable[[Path], Read], path: Path) -> Read:
        """Return what the reader returns."""
        self._reading = True
        try:
            return self._reader.call(fn, path)
        finally:
            self._reading = False

    def interrupt(self) -> None:
        """End a reading under way; to be called in a signal handler."""
        if self._reading:
            self._reading = False
            raise _Interrupted


class Attending:
    """Waiting without missing anything: checkpoints are judged, signals only noted.

    A signal ends a wait, and the reading of a checkpoint (which is then judged by the next
    start): the trainer hears of it at once, however large its checkpoints are.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        inspector: Inspector,
        reader: InterruptibleReader,
        arrivals: Arrivals,
        on_judged: Callable[[Outcome], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roots = tuple(roots)
        self._inspector = inspector
        self._reader = reader
        self._arrivals = arrivals
        self._on_judged = on_judged
        self._clock = clock
        self._signals: list[int] = []

    @property
    def signal(self) -> int | None:
        """Return the first signal that came, None while none has."""
        return self._signals[0] if self._signals else None

    @property
    def is_waiting(self) -> bool:
        """Tell whether a checkpoint waits for its verdict: it may still be written."""
        return self._inspector.pending > 0

    def look(self, longest_s: float) -> Iterator[Outcome]:
        """Wait until something is due, at most so long, and yield what is judged then."""
        wait_s = self._inspector.next_look_s()
        self._arrived(longest_s if wait_s is None else min(wait_s, longest_s))
        yield from self._judged()

    def drain(self, timeout_s: float) -> int:
        """Judge everything that lies there, waiting for what is still settling.

        Return how many checkpoints have no verdict all the same. Raises StateError when none
        can be written.
        """
        self._inspector.arrived(_EVERYTHING, self._roots)
        deadline = self._clock() + timeout_s
        while self._inspector.pending and self._clock() < deadline and not self._signals:
            for _ in self._judged():
                pass
            if self._inspector.refusal is not None:
                raise self._inspector.refusal
            self.wait(min(self._inspector.next_look_s() or 0.0, deadline - self._clock()))
        return self._inspector.unjudged

    def drain_aloud(self, timeout_s: float, on_note: Callable[[str], None]) -> None:
        """Judge everything that lies there, and say when something stays without a verdict."""
        unjudged = self.drain(timeout_s)
        if unjudged and self.signal is None:
            many = f"{unjudged} checkpoint{'s have' if unjudged > 1 else ' has'}"
            on_note(f"{many} no verdict after {timeout_s:g} s; going on without")

    def wait(self, seconds: float) -> None:
        """Wait, but not past a signal."""
        deadline = self._clock() + seconds
        while (left := deadline - self._clock()) > 0 and not self._signals:
            self._arrived(left)

    def _arrived(self, timeout_s: float) -> None:
        look_for_new(self._inspector, self._arrivals, self._roots, timeout_s)

    def _judged(self) -> Iterator[Outcome]:
        try:
            for outcome in self._inspector.work():
                self._on_judged(outcome)
                yield outcome
                if self._signals:
                    return
        except _Interrupted:
            return

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM while the block lasts; the loops look at `signal`."""

        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)
            self._arrivals.wake()
            self._reader.interrupt()

        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
