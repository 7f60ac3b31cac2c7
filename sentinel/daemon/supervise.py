"""`sentinel run`: start the trainer, judge what it writes, stop, repair and start it again.

Every step is written to the journal as an intent before it is taken, and every step may be
taken twice, so a kill at any instant is followed by the same end: `Supervisor.run` looks at the
journal first and goes on from there.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sentinel.daemon.attending import Attending
from sentinel.daemon.backoff import pause_s
from sentinel.daemon.beginning import is_gone, own_choice
from sentinel.daemon.hanging import Hanging
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.launching import Launcher, RunSettings
from sentinel.daemon.process import Ended, TrainerProcess
from sentinel.daemon.process_linux import become_subreaper
from sentinel.daemon.proving import Prover
from sentinel.daemon.repairing import HUNG, Repairer, acting
from sentinel.daemon.runs import SupervisedRuns
from sentinel.daemon.telling import Teller, ended_words
from sentinel.errors import StateError
from sentinel.repairs.plan import Plan
from sentinel.supervision import ExitCodes

__all__ = ["RunSettings", "Supervisor"]

ENDED_FAULTY = ExitCodes().ended_faulty
GAVE_UP = ExitCodes().gave_up
STOPPED_BY_POLICY = ExitCodes().stopped_by_policy
"""`sentinel run`'s own exit codes, unless the user gave others; any other is the trainer's."""

SIGNALLED = 128
"""Ended by signal N: 128 + N, as shells have it."""

_POLL_S = 0.5


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

    # -- how it begins ----------------------------------------------------------------------

    def _begin(self) -> TrainerProcess | int:
        """Go on where a killed sentinel stopped, or begin anew; an exit code when it ends here."""
        last = self._journal.last_attempt(self._run_id)
        self._runs.take(last)
        if last is None or last.state == "ended":
            self._finish_quarantine()
            repair = self._resume_repair(last)
            return self._fresh_start(last) if repair is None else repair
        process = self._launcher.find(last)
        if process is not None:
            pid = process.identity.pid
            self._say(last, "action", f"found the trainer still running (pid {pid})", "adopt")
            return process
        if last.state == "planned":
            self._finish_quarantine()
            return self._start_planned(last)
        return self._lost(last)

    def _lost(self, last: Attempt) -> TrainerProcess | int:
        """Go on after an attempt whose trainer is gone without sentinel having seen its end."""
        self._launcher.clear(last)
        self._finish_quarantine()
        self._drain()
        repair = self._resume_repair(last)
        if repair is not None:
            return repair
        self._journal.attempt_ended(last, exit_code=None, outcome="lost")
        self._say(last, "outcome", "the trainer ended unseen; its exit code is unknown", "lost")
        if self._reports_only:
            return self._fresh_start(last)
        faulty = self._repairer.faulty(last.attempt)
        if faulty:
            return self._repair(last, faulty)
        plan = self._repairer.continue_plan(last)
        return self._fresh_start(last) if plan is None else self._start_plan(plan)

    def _resume_repair(self, last: Attempt | None) -> TrainerProcess | int | None:
        if last is None or self._reports_only or not self._repairer.is_open(last):
            return None
        self._drain()
        return self._repair(last, self._repairer.faulty(last.attempt))

    def _start_planned(self, last: Attempt) -> TrainerProcess | int:
        """Start what was planned, unless its beginning is gone or the user changed the command."""
        plan = Plan.from_detail(last.plan) if last.plan and self._settings.recipe else None
        gone = plan is not None and is_gone(plan)
        command = self._launcher.composed(self._run_id, plan).command
        if not gone and last.command == command:
            return self._start(last)
        self._journal.attempt_ended(last, exit_code=None, outcome="not started")
        if gone:
            plan = self._repairer.continue_plan(last)
        return self._fresh_start(last) if plan is None else self._start_plan(plan)

    def _fresh_start(self, last: Attempt | None) -> TrainerProcess | int:
        """Judge what lies there, and start the user's command unless its own choice is faulty."""
        self._runs.take(last)
        self._drain()
        if self._attending.signal is not None:
            return SIGNALLED + self._attending.signal
        chosen = own_choice(self._settings, self._repairer.on_disk())
        if chosen is not None and not chosen.target:
            where = f"'{chosen.path}', which the trainer would begin from, is {chosen.level}"
            if not self._reports_only:
                return self._start_elsewhere(chosen, last, where)
            self._say(last, "outcome", f"{where}; started all the same, as told", "begin")
        attempt = self._journal.plan_attempt(
            self._run_id,
            parent=chosen.checkpoint_id if chosen is not None else None,
            command=self._settings.command,
            plan=None,
        )
        return self._start(attempt)

    def _start_elsewhere(
        self, chosen: Judged, last: Attempt | None, where: str
    ) -> TrainerProcess | int:
        """Begin from another checkpoint than the one the user's command names."""
        if self._settings.policy == "stop":
            self._say(last, "outcome", f"{where}; the policy is to stop", "begin")
            return self._codes.stopped_by_policy
        plan = self._repairer.plan_before_start(chosen)
        if isinstance(plan, str):
            self._say(last, "outcome", f"{where}; {plan}", "begin")
            return self._codes.gave_up
        self._say(last, "outcome", f"{where}; it begins elsewhere", "begin")
        return self._start_plan(plan)

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
            self._repairer.open(attempt)
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
                if not self._reports_only and acting(outcome.judged, self._settings.act_on):
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

    def _repair(self, attempt: Attempt, faulty: Sequence[Judged]) -> TrainerProcess | int:
        """Quarantine, plan and start again; the exit code when there is no next attempt."""
        if faulty:  # else it hung, and what it wrote before says nothing of that
            self._prover.prove(attempt, ended=True)
        self._repairer.quarantine(attempt, faulty)
        outcome = "faulty" if faulty else HUNG
        self._journal.attempt_ended(attempt, exit_code=None, outcome=outcome)
        if self._settings.policy == "stop":
            return self._end_here(attempt, "the policy is to stop", self._codes.stopped_by_policy)
        plan = self._repairer.plan(attempt, faulty)
        if not isinstance(plan, str):
            self._attending.wait(self._pause_s(attempt))
            if self._attending.signal is not None:
                return SIGNALLED + self._attending.signal
            if is_gone(plan):
                plan = self._repairer.plan(attempt, faulty)
        if isinstance(plan, str):
            return self._end_here(attempt, plan, self._codes.gave_up)
        process = self._start_plan(plan)
        self._repairer.close(attempt)
        return process

    def _end_here(self, attempt: Attempt, why: str, code: int) -> int:
        self._repairer.close(attempt)
        self._say(attempt, "outcome", why, "end")
        return code

    def _finished(self, attempt: Attempt, end: Ended) -> int:
        newest = next(iter(self._journal.newest(self._run_id, attempt.attempt, limit=1)), None)
        outcome = "faulty" if newest is not None and newest.level == "faulty" else "ended"
        self._journal.attempt_ended(attempt, exit_code=end.code, outcome=outcome)
        told = ended_words(attempt, end, newest, self._settings.recipe)
        self._say(attempt, "outcome", told, "end")
        if newest is not None and newest.level in {"faulty", "unreadable"}:
            return self._codes.ended_faulty
        # An adopted trainer's code is told to nobody but its first parent.
        known = end.code or 0
        return known if known >= 0 else SIGNALLED - known

    def _interrupted(self, process: TrainerProcess, attempt: Attempt, number: int) -> int:
        """Stop the trainer and end; what it has not been judged yet is, by the next start."""
        process.stop(self._settings.grace_s)
        self._journal.attempt_ended(attempt, exit_code=None, outcome="interrupted")
        name = signal.Signals(number).name
        self._say(attempt, "outcome", f"{name}: stopped the trainer and ended", "signal")
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

    def _finish_quarantine(self) -> None:
        if not self._reports_only:
            self._repairer.finish_quarantine()

    def _drain(self) -> None:
        """Judge everything that lies there, and say when something stays without a verdict."""
        timeout_s = self._settings.verdict_timeout_s
        unjudged = self._attending.drain(timeout_s)
        if unjudged and self._attending.signal is None:
            many = f"{unjudged} checkpoint{'s have' if unjudged > 1 else ' has'}"
            self._on_note(f"{many} no verdict after {timeout_s:g} s; going on without")

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
