"""Merging the health log beside the judging: in a process of its own that gives way to all others.

The judging only says which run has grown. A thread looks whether something is due and has a child
merge it; the child is there only as long as that takes. Nothing waits for it: a merge that is
broken off loses nothing, and is taken up by the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sentinel.daemon.recording import Outcome, refused
from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import WorkerDiedError
from sentinel.health.compaction import compact_run, is_due
from sentinel.health.log import HealthLog
from sentinel.priority import Priority

LAST = Priority(nice=19, io="idle")
"""Merging has time: nothing waits for it."""

_END_S = 0.1


@contextmanager
def compacting(
    log: HealthLog,
    run_ids: Iterable[str],
    *,
    on_note: Callable[[str], None],
    priority: Priority = LAST,
) -> Iterator[Compacting]:
    """Merge while the block lasts; ``run_ids`` may have something due from before.

    What is under way at its end is given up.
    """
    compacting = Compacting(log, on_note, priority)
    for run_id in run_ids:
        compacting.grew(run_id)
    try:
        yield compacting
    finally:
        compacting.close()


class Compacting:
    """The thread that has the runs merged that have grown, one after the other."""

    def __init__(self, log: HealthLog, on_note: Callable[[str], None], priority: Priority) -> None:
        self._log = log
        self._on_note = on_note
        self._noted: set[str] = set()
        self._grown: dict[str, None] = {}
        self._busy = False
        self._stopped = False
        self._change = threading.Condition()
        self._worker = IsolatedWorker(priority=priority)
        self._thread = threading.Thread(target=self._work, name="compacting", daemon=True)
        self._thread.start()

    def heard(self, listener: Callable[[Outcome], None]) -> Callable[[Outcome], None]:
        """Return a listener that hears of each outcome, and then the merging does."""

        def both(outcome: Outcome) -> None:
            listener(outcome)
            self.grew(outcome.row.run_id)

        return both

    def grew(self, run_id: str) -> None:
        """Say that a run may have something to merge; returns at once."""
        with self._change:
            self._grown[run_id] = None
            self._change.notify_all()

    def finish(self) -> None:
        """Wait until nothing is left to be merged."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or not (self._grown or self._busy))

    def close(self) -> None:
        """Break off what is under way and end."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        while self._thread.is_alive():
            self._worker.close()  # once more if it was started just now
            self._thread.join(_END_S)

    def _work(self) -> None:
        while (run_id := self._next()) is not None:
            try:
                if is_due(self._log, run_id):
                    self._worker.call(compact_run, self._log.root, run_id)
            except OSError as error:
                self._note(str(refused(self._log, error)))
            except WorkerDiedError as error:
                self._note(f"the health log was not merged: {error}")
            except Exception as error:  # noqa: BLE001 - merging must not end the daemon
                self._note(f"the health log was not merged: {type(error).__name__}: {error}")
            if not self._grown:
                self._worker.close()
            with self._change:
                self._busy = False
                self._change.notify_all()

    def _next(self) -> str | None:
        with self._change:
            self._change.wait_for(lambda: self._grown or self._stopped)
            if self._stopped:
                return None
            run_id = next(iter(self._grown))
            del self._grown[run_id]
            self._busy = True
            return run_id

    def _note(self, text: str) -> None:
        if text not in self._noted and not self._stopped:
            self._noted.add(text)
            self._on_note(text)
