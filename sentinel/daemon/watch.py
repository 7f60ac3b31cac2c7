"""`sentinel watch`: judge what arrives below some directories, beside trainers of any kind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sentinel.checkpoint import Checkpoint
from sentinel.daemon.arrivals import Arrivals
from sentinel.daemon.inspector import Inspector, Outcome, RunRef
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.formats.opening import Candidate
from sentinel.verdict import LEVELS, Level

Listener = Callable[[Outcome], None]


class WatchedRuns:
    """One run for each directory and name that checkpoints share, told apart by their steps.

    A step that is not above the last one means that the trainer was started again: a new
    attempt, whose parent is known only when the checkpoint itself names it.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._run_ids: dict[str, str] = {}

    def known(self, candidate: Candidate) -> str:
        """Return the run's id; a run that is seen for the first time gets one."""
        group = candidate.group
        if group not in self._run_ids:
            self._run_ids[group] = self._journal.bind_run((Path(group),))
        return self._run_ids[group]

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:
        """Return the attempt a checkpoint belongs to, opening a new one where it must be new."""
        run_id = self.known(candidate)
        last = self._journal.last_attempt(run_id)
        if last is None or self._restarted(last, checkpoint):
            parent = self._parent(run_id, checkpoint)
            last = self._journal.open_attempt(run_id, parent=parent)
        return RunRef(run_id, last.attempt, last.parent, candidate.path.parent)

    def _restarted(self, last: Attempt, checkpoint: Checkpoint) -> bool:
        steps = [
            judged.step
            for judged in self._journal.judged(last.run_id)
            if judged.attempt == last.attempt and judged.step is not None
        ]
        return bool(steps) and checkpoint.step is not None and checkpoint.step <= max(steps)

    def _parent(self, run_id: str, checkpoint: Checkpoint) -> str | None:
        named = checkpoint.settings.get("resumed_from.path")
        if not isinstance(named, str):
            return None
        same: Iterator[Judged] = (
            judged
            for judged in reversed(self._journal.judged(run_id))
            if judged.path == Path(named)
        )
        found = next(same, None)
        return None if found is None else found.checkpoint_id


class Watch:
    """The watch loop: wait, judge, tell; it ends by a signal or, with ``once``, by itself."""

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        inspector: Inspector,
        arrivals: Arrivals,
        listener: Listener,
        verdict_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roots = tuple(roots)
        self._inspector = inspector
        self._arrivals = arrivals
        self._listener = listener
        self._verdict_timeout_s = verdict_timeout_s
        self._clock = clock
        self._stopped = False

    def run(self, *, once: bool) -> Level:
        """Judge until stopped (or, with ``once``, until nothing waits); return the worst level."""
        worst: Level = "healthy"
        deadline = self._clock() + self._verdict_timeout_s if once else float("inf")
        with self._stopping_signals():
            while not self._stopped:
                wait_s = self._inspector.next_look_s()
                self._inspector.arrived(self._arrivals.take(wait_s), self._roots)
                for outcome in self._inspector.work():
                    self._listener(outcome)
                    worst = max(worst, outcome.judged.level, key=LEVELS.index)
                if once and (not self._inspector.pending or self._clock() > deadline):
                    break
        return worst

    @contextmanager
    def _stopping_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop after the checkpoint in hand."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopped = True
            self._arrivals.wake()

        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
