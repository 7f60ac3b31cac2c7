"""A training that judges itself, in the journal and the health log of its run."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from sentinel.checkpoint import Checkpoint
from sentinel.daemon.candidates import identity_or_own
from sentinel.daemon.guarding import guarding_directory, guarding_run
from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.lineage import Lineage
from sentinel.daemon.places import Places, refuse_state_below
from sentinel.daemon.recording import Recorder, RunRef, Times
from sentinel.daemon.telling import Teller
from sentinel.flow import Judgement, inspect
from sentinel.formats.opening import open_checkpoint
from sentinel.health.log import HealthLog
from sentinel.health.rows import EventKind
from sentinel.rules.past import Past
from sentinel.verdict import Level


class Record:
    """One attempt of a run, whose locks are held until `close`.

    ``run`` is the name the checkpoints share, ``directory`` where they come to. Raises
    GuardedError when another sentinel is at it, ConfigError when the state lies below the
    directory, StateError when the state cannot be used.
    """

    def __init__(self, places: Places, run: Path, directory: Path) -> None:
        refuse_state_below((directory,), places)
        with ExitStack() as stack:
            stack.enter_context(guarding_directory(places.state, directory, again=True))
            self._journal = Journal(places.journal)
            stack.callback(self._journal.close)
            run_id = self._journal.bind_run((run,))
            stack.enter_context(guarding_run(places.state, run_id, again=True))
            self._held = stack.pop_all()
        log = HealthLog(places.log)
        self._recorder = Recorder(self._journal, log)
        self._lineage = Lineage(self._journal, log.root, partial(inspect, digest=True))
        # The verdicts are logged by the guard, and a log that refuses is said with the next one.
        self._teller = Teller(log, run_id, _unheard, on_note=_unheard)
        # What lay there before the training counts to no attempt, as under `sentinel run`.
        self._ref = RunRef(run_id, 0, None, directory)
        self._attempt: Attempt | None = None

    def begin(self, resumed_from: Path | None) -> None:
        """Open the attempt; its parent is the checkpoint it begins from, when that is known."""
        parent = None if resumed_from is None else self.known(resumed_from)
        attempt = self._journal.open_attempt(self._ref.run_id, parent=parent)
        self._attempt = attempt
        self._ref = replace(self._ref, attempt=attempt.attempt, parent=attempt.parent)
        self._tell("attempt", f"attempt {attempt.attempt} judges its own checkpoints", "start")

    def known(self, path: Path) -> str | None:
        """Return the id of a checkpoint that was judged as it lies there now."""
        real = os.path.realpath(path)
        for judged in reversed(self._journal.judged(self._ref.run_id)):
            if os.path.realpath(judged.path) == real:
                lies = identity_or_own(path, open_checkpoint(path).members)
                same = self._journal.is_judged_as(judged.checkpoint_id, lies)
                return judged.checkpoint_id if same else None
        return None

    def past(self, checkpoint: Checkpoint) -> Past:
        """Return what came before the first checkpoint of this attempt, up from its parent."""
        return self._lineage.before(self._ref, checkpoint)

    def keep(self, judgement: Judgement, times: Times) -> None:
        """Write a verdict down."""
        path = judgement.checkpoint.path
        lies = identity_or_own(path, judgement.checkpoint.members)
        self._recorder.write(replace(self._ref, root=path.parent), judgement, lies, times)

    def stopped(self, rules: str) -> None:
        """Write down that the training was told to stop, and by which rules."""
        self._tell("action", f"told the training to stop: {rules}", "stop")

    def close(self, last: Level | None) -> None:
        """Write down how the training ended (with which last checkpoint), and let the run go."""
        try:
            if self._attempt is not None:
                outcome = "faulty" if last == "faulty" else "ended"
                self._journal.attempt_ended(self._attempt, exit_code=None, outcome=outcome)
                what = f"its last checkpoint is {last}" if last else "it wrote no checkpoint"
                self._tell("outcome", f"the training ended; {what}", "end")
        finally:
            self._held.close()

    def _tell(self, kind: EventKind, message: str, about: str) -> None:
        self._teller.tell(kind, message, attempt=self._ref.attempt, about=(about,))


def _unheard(_said: object) -> None:
    """Leave what was said to the log."""
