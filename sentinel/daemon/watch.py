"""`sentinel watch`: judge what arrives below some directories, beside trainers of any kind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sentinel.checkpoint import Checkpoint, path_text
from sentinel.daemon.arrivals import Arrivals
from sentinel.daemon.inspector import Inspector
from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.recording import Outcome, RunRef
from sentinel.errors import ConfigError
from sentinel.formats.opening import Candidate
from sentinel.verdict import LEVELS, Level

Listener = Callable[[Outcome], None]


class WatchedRuns:
    """One run for each directory and name that checkpoints share, told apart by their steps.

    A step that falls means that the trainer was started again: a new attempt, whose parent is
    known only when the checkpoint itself names it. ``is_guarded`` tells whether another sentinel
    acts on a run; that one judges it then, and ``on_note`` gets a sentence about it.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        is_guarded: Callable[[str], bool],
        on_note: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._is_guarded = is_guarded
        self._on_note = on_note
        self._run_ids: dict[str, str] = {}
        self._left_alone: set[str] = set()

    def known(self, candidate: Candidate) -> str | None:
        """Return the run's id, a new one for a run that is seen for the first time."""
        group = os.path.realpath(candidate.group)
        if group not in self._run_ids:
            self._run_ids[group] = self._journal.bind_run((Path(group),))
        run_id = self._run_ids[group]
        if self._is_guarded(run_id):
            if run_id not in self._left_alone:
                self._on_note(f"'{path_text(group)}' is left to the sentinel that runs its trainer")
            self._left_alone.add(run_id)
            return None
        self._left_alone.discard(run_id)
        return run_id

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:
        """Return the attempt a checkpoint belongs to, opening a new one where it must be new."""
        run_id = self._run_ids[os.path.realpath(candidate.group)]
        last = self._journal.last_attempt(run_id)
        if last is None or self._restarted(last, checkpoint):
            parent = self._parent(run_id, checkpoint)
            last = self._journal.open_attempt(run_id, parent=parent)
        return RunRef(run_id, last.attempt, last.parent, candidate.path.parent)

    def _restarted(self, last: Attempt, checkpoint: Checkpoint) -> bool:
        highest, paths = self._journal.highest_step(last.run_id, last.attempt)
        if highest is None or checkpoint.step is None:
            return False
        # A last save beside the last step's own is the same step under another name.
        again = checkpoint.step == highest and checkpoint.path in paths
        return checkpoint.step < highest or again

    def _parent(self, run_id: str, checkpoint: Checkpoint) -> str | None:
        named = checkpoint.settings.get("resumed_from.path")
        if not isinstance(named, str):
            return None
        real = os.path.realpath(named)
        for judged in reversed(self._journal.judged(run_id)):
            if os.path.realpath(judged.path) == real:
                return judged.checkpoint_id
        return None


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
        """Judge until stopped (or, with ``once``, until nothing waits); return the worst level.

        A checkpoint that got no verdict counts as unreadable. With ``once``, raises ConfigError
        for a directory that is not there and StateError when no verdict can be written.
        """
        worst: Level = "healthy"
        with self._stopping_signals():
            for level in self._once() if once else self._forever():
                worst = _worse(worst, level)
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
                return

    def _turn(self) -> Iterator[Level]:
        """Wait for the next thing to do, and judge what is due."""
        wait_s = self._inspector.next_look_s()
        self._inspector.arrived(self._arrivals.take(wait_s), self._roots)
        for outcome in self._inspector.work():
            self._listener(outcome)
            yield outcome.judged.level
            if self._stopped:
                return

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


def _worse(one: Level, other: Level) -> Level:
    return max(one, other, key=LEVELS.index)
