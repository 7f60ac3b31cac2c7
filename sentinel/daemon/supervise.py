"""`sentinel run`: start the trainer, judge what it writes, stop, repair and start it again.

Every step is written to the journal as an intent before it is taken, and every step may be
taken twice, so a kill at any instant is followed by the same end: `Supervisor.run` looks at the
journal first and goes on from there.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sentinel.daemon.attending import Attending
from sentinel.daemon.backoff import pause_s
from sentinel.daemon.beginning import SIGNALLED, Beginning, Repair, is_gone
from sentinel.daemon.hanging import Hanging
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.launching import Launcher, RunSettings
from sentinel.daemon.process import Ended, TrainerProcess
from sentinel.daemon.process_linux import become_subreaper
from sentinel.daemon.proving import Prover
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.repairing import HUNG, Repairer, asks_by_hand
from sentinel.daemon.runs import SupervisedRuns
from sentinel.daemon.telling import Teller, ended_words
from sentinel.errors import StateError
from sentinel.repairs.compose import Composed
from sentinel.repairs.plan import Plan
from sentinel.supervision import ExitCodes

__all__ = ["RunSettings", "Supervisor"]

ENDED_FAULTY = ExitCodes().ended_faulty
GAVE_UP = ExitCodes().gave_up
STOPPED_BY_POLICY = ExitCodes().stopped_by_policy
"""`sentinel run`'s own exit codes, unless the user gave others; any other is the trainer's."""

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a resume would do: what it moves away, where it begins and why, what it starts.

    Without a start ``says`` is the reason.
    """

    moved: tuple[Judged, ...]
    says: str
    start: Composed | None


class Supervisor:
    """One supervised run, from what lies there before the start to the exit code."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        run_id: str,
        runs: SupervisedRuns,
        journal: Journal,
        launcher: Launcher,
        attending: Attending,
        repairer: Repairer,
        quarantiner: Quarantiner,
        beginning: Beginning,
        prover: Prover,
        hanging: Hanging,
        teller: Teller,
        on_note: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._runs = runs
        self._journal = journal
        self._launcher = launcher
        self._attending = attending
        self._repairer = repairer
        self._quarantiner = quarantiner
        self._beginning = beginning
        self._teller = teller
        self._on_note = on_note
        self._reports_only = settings.policy == "report"
        self._prover = prover
        self._hanging = hanging
        self._codes = settings.exit_codes

    def run(self) -> int:
        """Supervise the training to its end and return the exit code.

        When the state cannot be written any more, the trainer is left to itself until it ends;
        StateError is raised then.
        """
        become_subreaper()
        with self._attending.hearing():
            try:
                process = self._begin()
                while not isinstance(process, int):
                    process = self._attempt(process)
            except StateError as error:
                self._stand_by(error)
                raise
            return process

    def can_resume(self, code: int) -> bool:
        """Tell whether a run that ended with this code is one for `sentinel resume`.

        It ended badly, by a signal, or on a checkpoint whose findings know a remedy.
        """
        if self._settings.recipe is None:
            return False
        if code in self._codes.model_dump().values() or self._attending.signal is not None:
            return True
        last = self._journal.last_attempt(self._run_id)
        newest = self._journal.newest(self._run_id, last.attempt, limit=1) if last else ()
        return any(asks_by_hand(found) for judged in newest for found in judged.findings)

    def foresee(self) -> Foreseen:
        """Return what a resume of an ended run would do; nothing is moved or started."""
        moved, plan = self._beginning.foresee()
        if isinstance(plan, str):
            return Foreseen(moved, plan, None)
        return Foreseen(moved, plan.reason, self._launcher.composed(self._run_id, plan))

    def _begin(self) -> TrainerProcess | int:
        match self._beginning.decide():
            case Attempt() as planned:
                return self._start(planned)
            case Plan() as plan:
                return self._start_plan(plan)
            case Repair(attempt, faulty, asked):
                return self._repair(attempt, faulty, asked=asked)
            case done:
                return done

    # -- starting -----------------------------------------------------------------------------

    def _start_plan(self, plan: Plan) -> TrainerProcess | int:
        composed = self._launcher.composed(self._run_id, plan)
        attempt = self._journal.plan_attempt(
            self._run_id,
            parent=plan.target,
            command=composed.command,
            plan=plan.as_detail(),
        )
        if composed.diff:
            many = " and ".join(f"'{path.name}'" for path in composed.files)
            message = f"changed a copy of {many}; the original stays as it is"
            self._say(attempt, "action", message, "changed", {"diff": composed.diff})
        return self._start(attempt)

    def _start(self, attempt: Attempt) -> TrainerProcess | int:
        """Start a planned attempt; after a signal it stays planned for the next time."""
        if self._attending.signal is not None:
            return SIGNALLED + self._attending.signal
        self._runs.take(attempt)
        process = self._launcher.start(attempt)
        words = shlex.join(attempt.command)
        self._say(attempt, "attempt", f"attempt {attempt.attempt} started: {words}", "start")
        return process

    # -- one attempt ----------------------------------------------------------------------------

    def _attempt(self, process: TrainerProcess) -> TrainerProcess | int:
        """Tend one attempt to its end; return the next one's process or the exit code."""
        attempt = self._journal.last_attempt(self._run_id)
        assert attempt is not None, "a process belongs to an attempt"  # noqa: S101 - for mypy
        end = self._tend(process, attempt)
        if self._attending.signal is not None:
            return self._interrupted(process, attempt, self._attending.signal)
        if end is not None:
            self._drain()
        hangs = end is None  # else a finding asks for it
        if not self._reports_only and (hangs or self._repairer.faulty(attempt.attempt)):
            self._repairer.open(attempt, is_over=end is not None and end.code == 0)
            self._stop(process, attempt)
            self._drain()
            return self._repair(attempt, self._repairer.faulty(attempt.attempt))
        self._prover.prove(attempt, ended=True)
        return self._finished(attempt, end or Ended(None))

    def _tend(self, process: TrainerProcess, attempt: Attempt) -> Ended | None:
        """Watch until the trainer ends, a finding or a hang asks to act, or a signal comes."""
        known = self._repairer.faulty(attempt.attempt) or self._repairer.is_open(attempt)
        if not self._reports_only and known:
            return None  # judged by a sentinel that was killed before it could act
        self._hanging.begin()
        while self._attending.signal is None:
            for outcome in self._attending.look(_POLL_S):
                self._hanging.came(outcome.judged.path)
                self._prover.prove(attempt, ended=False)
                if not self._reports_only and self._repairer.asks(outcome.judged):
                    return None
            end = process.poll()
            if end is not None:
                return end
            if self._hanging.asks_to_act(attempt, is_saving=self._attending.is_waiting):
                return None
        return None

    def _stop(self, process: TrainerProcess, attempt: Attempt) -> None:
        report = process.stop(self._settings.grace_s)
        if report.asked:
            many = f"{len(report.asked)} process{'es' if len(report.asked) > 1 else ''}"
            how = f", {len(report.killed)} of them by SIGKILL" if report.killed else ""
            message = f"stopped the trainer ({many}{how}) in {report.took_s:.1f} s"
            self._say(attempt, "action", message, "stop")

    def _repair(
        self, attempt: Attempt, faulty: Sequence[Judged], *, asked: bool = False
    ) -> TrainerProcess | int:
        """Quarantine, plan and start again; the exit code when there is no next attempt.

        What the user ``asked`` for is neither stopped by the policy nor delayed.
        """
        if faulty:  # else it hung, and what it wrote before says nothing of that
            self._prover.prove(attempt, ended=True)
        self._quarantiner.move_away(attempt, faulty)
        outcome = "faulty" if faulty else HUNG
        self._journal.attempt_ended(attempt, exit_code=None, outcome=outcome)
        if self._settings.policy == "stop" and not asked:
            return self._end_here(attempt, "the policy is to stop", "stopped_by_policy")
        plan = self._repairer.plan(attempt, faulty)
        if not isinstance(plan, str):
            self._attending.wait(0 if asked else self._pause_s(attempt))
            if self._attending.signal is not None:
                return SIGNALLED + self._attending.signal
            if is_gone(plan):
                plan = self._repairer.plan(attempt, faulty)
        if isinstance(plan, str):
            return self._end_here(attempt, plan, "gave_up")
        process = self._start_plan(plan)
        self._repairer.close(attempt)
        return process

    def _end_here(
        self, attempt: Attempt, why: str, end: Literal["gave_up", "stopped_by_policy"]
    ) -> int:
        self._repairer.close(attempt)
        self._say(attempt, "outcome", why, "end", {"end": end})
        return self._codes.gave_up if end == "gave_up" else self._codes.stopped_by_policy

    def _finished(self, attempt: Attempt, end: Ended) -> int:
        newest = next(iter(self._journal.newest(self._run_id, attempt.attempt, limit=1)), None)
        outcome = "faulty" if newest is not None and newest.level == "faulty" else "ended"
        self._journal.attempt_ended(attempt, exit_code=end.code, outcome=outcome)
        told = ended_words(attempt, end, newest, self._settings.recipe)
        is_bad = newest is not None and newest.level in {"faulty", "unreadable"}
        self._say(attempt, "outcome", told, "end", {"end": "ended_faulty" if is_bad else "ended"})
        if is_bad:
            return self._codes.ended_faulty
        # An adopted trainer's code is told to nobody but its first parent.
        known = end.code or 0
        return known if known >= 0 else SIGNALLED - known

    def _interrupted(self, process: TrainerProcess, attempt: Attempt, number: int) -> int:
        """Stop the trainer and end; what it has not been judged yet is, by the next start."""
        process.stop(self._settings.grace_s)
        self._journal.attempt_ended(attempt, exit_code=None, outcome="interrupted")
        name = signal.Signals(number).name
        told = f"{name}: stopped the trainer and ended"
        self._say(attempt, "outcome", told, "signal", {"end": "interrupted"})
        return SIGNALLED + number

    def _stand_by(self, why: StateError) -> None:
        """Let a trainer go on that cannot be guarded any more, and pass signals on to it.

        It would die with us where we are the first process of a container or a batch job.
        """
        process = self._launcher.process
        if process is None or process.poll() is not None:
            return
        self._on_note(f"{why}; the trainer goes on, unguarded")
        while process.poll() is None:
            if self._attending.signal is not None:
                process.stop(self._settings.grace_s)
                return
            process.wait(_POLL_S)

    # -- small things -----------------------------------------------------------------------

    def _drain(self) -> None:
        self._attending.drain_aloud(self._settings.verdict_timeout_s, self._on_note)

    def _say(
        self,
        attempt: Attempt | None,
        kind: Literal["finding", "action", "outcome", "attempt"],
        message: str,
        about: str,
        detail: Mapping[str, object] | None = None,
    ) -> None:
        number = attempt.attempt if attempt else 0
        self._teller.tell(kind, message, attempt=number, about=(about,), detail=detail)

    def _pause_s(self, attempt: Attempt) -> float:
        first_s, most_s = self._settings.backoff_s, self._settings.backoff_max_s
        return pause_s(self._repairer.failures(attempt), first_s=first_s, most_s=most_s)
