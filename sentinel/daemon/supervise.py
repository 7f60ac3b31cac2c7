"""`sentinel run`: start the trainer, judge what it writes, stop, repair and start it again.

Every step is written to the journal as an intent before it is taken, and every step may be
taken twice, so a kill at any instant is followed by the same end: `Supervisor.run` looks at the
journal first and goes on from there.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Literal

from sentinel.checkpoint import Checkpoint
from sentinel.daemon.arrivals import Arrivals, Arrived
from sentinel.daemon.inspector import Inspector, Outcome, RunRef
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.process import Ended, ProcessIdentity, TrainerProcess, remains
from sentinel.daemon.process_linux import become_subreaper
from sentinel.daemon.repairing import Repairer, acting
from sentinel.daemon.telling import Teller
from sentinel.daemon.verifying import verify
from sentinel.formats.opening import Candidate
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Recipe, chosen_checkpoint, compose

ENDED_FAULTY = 70
GAVE_UP = 75
STOPPED_BY_POLICY = 76
"""`sentinel run`'s own exit codes; any other is the trainer's."""

Policy = Literal["auto", "stop", "report"]

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the user asked `sentinel run` for."""

    command: tuple[str, ...]
    cwd: Path
    roots: tuple[Path, ...]
    recipe: Recipe | None
    policy: Policy = "auto"
    act_on: frozenset[str] = frozenset()
    max_attempts: int = 4
    grace_s: float = 30.0
    backoff_s: float = 2.0
    backoff_max_s: float = 60.0
    verdict_timeout_s: float = 120.0
    output: Path | None = None


class SupervisedRuns:
    """Every checkpoint below the roots belongs to the attempt that runs now."""

    def __init__(self, run_id: str, root: Path) -> None:
        self._run_id = run_id
        self._root = root
        self.attempt = 0
        self.parent: str | None = None

    def known(self, candidate: Candidate) -> str:  # noqa: ARG002 - the protocol of Runs
        """Return the id of the one run there is."""
        return self._run_id

    def of(self, candidate: Candidate, checkpoint: Checkpoint) -> RunRef:  # noqa: ARG002
        """Return the current attempt; 0 is what lay there before the first start."""
        return RunRef(self._run_id, self.attempt, self.parent, self._root)


class Supervisor:
    """One supervised run, from what lies there before the start to the exit code."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        run_id: str,
        runs: SupervisedRuns,
        journal: Journal,
        inspector: Inspector,
        repairer: Repairer,
        teller: Teller,
        arrivals: Arrivals,
        on_judged: Callable[[Outcome], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._run_id = run_id
        self._runs = runs
        self._journal = journal
        self._inspector = inspector
        self._repairer = repairer
        self._teller = teller
        self._arrivals = arrivals
        self._on_judged = on_judged
        self._clock = clock
        self._signals: list[int] = []
        self._verified: set[int] = set()

    def run(self) -> int:
        """Supervise the training to its end and return the exit code."""
        become_subreaper()
        with self._handled_signals():
            process = self._begin()
            while not isinstance(process, int):
                process = self._attempt(process)
            return process

    # -- the attempts ---------------------------------------------------------------------

    def _begin(self) -> TrainerProcess | int:
        """Go on where a killed sentinel stopped, or begin anew; an exit code when it ends here."""
        last = self._journal.last_attempt(self._run_id)
        self._take_attempt(last)
        if last is None or last.state == "ended":
            self._repairer.finish_quarantine()
            return self._resume_repair(last) or self._fresh_start(last)
        process = _find(last)
        if process is not None:
            pid = process.identity.pid
            self._say(last, "action", f"found the trainer still running (pid {pid})", "adopt")
            self._note_started(last, process)
            return process
        if last.state == "planned":
            self._repairer.finish_quarantine()
            return self._start(last)
        return self._lost(last)

    def _lost(self, last: Attempt) -> TrainerProcess | int:
        """Go on after an attempt whose trainer is gone without sentinel having seen its end."""
        remains(_marker(last)).stop(self._settings.grace_s)
        self._repairer.finish_quarantine()
        self._drain()
        repair = self._resume_repair(last)
        if repair is not None:
            return repair
        self._journal.attempt_ended(last, exit_code=None, outcome="lost")
        self._say(last, "outcome", "the trainer ended unseen; its exit code is unknown", "lost")
        faulty = self._repairer.faulty(last.attempt)
        if faulty and self._settings.policy != "report":
            return self._repair(last, faulty)
        plan = self._repairer.continue_plan(last)
        return self._fresh_start(last) if plan is None else self._start_plan(plan)

    def _resume_repair(self, last: Attempt | None) -> TrainerProcess | int | None:
        if last is None or not self._repairer.is_open(last):
            return None
        self._drain()
        return self._repair(last, self._repairer.faulty(last.attempt))

    def _fresh_start(self, last: Attempt | None) -> TrainerProcess | int:
        """Judge what lies there, and start the user's command unless its own choice is faulty."""
        self._take_attempt(last)
        self._drain()
        chosen = self._own_choice()
        if chosen is not None and not chosen.target:
            where = f"'{chosen.path}', which the trainer would begin from, is {chosen.level}"
            if self._settings.policy == "report":
                self._say(last, "outcome", f"{where}; started all the same, as told", "begin")
            else:
                return self._start_elsewhere(chosen, last, where)
        parent = chosen.checkpoint_id if chosen is not None else None
        attempt = self._journal.plan_attempt(
            self._run_id, parent=parent, command=self._settings.command, plan=None
        )
        return self._start(attempt)

    def _start_elsewhere(
        self, chosen: Judged, last: Attempt | None, where: str
    ) -> TrainerProcess | int:
        """Begin from another checkpoint than the one the user's command names."""
        plan = self._repairer.plan_before_start(chosen)
        if isinstance(plan, str):
            self._say(last, "outcome", f"{where}; {plan}", "begin")
            return GAVE_UP
        self._say(last, "outcome", f"{where}; it begins elsewhere", "begin")
        return self._start_plan(plan)

    def _start_plan(self, plan: Plan) -> TrainerProcess:
        recipe = self._settings.recipe
        assert recipe is not None, "a plan is made with a recipe"  # noqa: S101 - for mypy
        command = compose(
            recipe,
            self._settings.command,
            checkpoint=Path(plan.target_path) if plan.target_path else None,
            precision=plan.precision,
            optimizer=plan.optimizer,
        )
        attempt = self._journal.plan_attempt(
            self._run_id, parent=plan.target, command=command, plan=plan.as_detail()
        )
        return self._start(attempt)

    def _start(self, attempt: Attempt) -> TrainerProcess:
        self._take_attempt(attempt)
        process = self._spawn(attempt)
        self._note_started(attempt, process)
        words = shlex.join(attempt.command)
        self._say(attempt, "attempt", f"attempt {attempt.attempt} started: {words}", "start")
        return process

    def _spawn(self, attempt: Attempt) -> TrainerProcess:
        start = partial(
            TrainerProcess.start,
            attempt.command,
            mark=_marker(attempt),
            cwd=self._settings.cwd,
            env=os.environ,
        )
        if self._settings.output is None:
            return start()
        with self._settings.output.open("ab") as output:
            return start(stdout=output)

    def _note_started(self, attempt: Attempt, process: TrainerProcess) -> None:
        known = process.identity
        self._journal.attempt_started(attempt, pid=known.pid, pid_started=known.started_s)

    def _attempt(self, process: TrainerProcess) -> TrainerProcess | int:
        """Tend one attempt to its end; return the next one's process or the exit code."""
        attempt = self._journal.last_attempt(self._run_id)
        assert attempt is not None, "a process belongs to an attempt"  # noqa: S101 - for mypy
        end = self._tend(process, attempt)
        if self._signals:
            return self._interrupted(process, attempt)
        if end is not None:
            self._drain()
        faulty = self._repairer.faulty(attempt.attempt)
        if faulty and self._settings.policy != "report":
            self._repairer.open(attempt)
            self._stop(process, attempt)
            self._drain()
            return self._repair(attempt, self._repairer.faulty(attempt.attempt))
        self._prove(attempt, ended=True)
        return self._finished(attempt, end or Ended(None))

    def _tend(self, process: TrainerProcess, attempt: Attempt) -> Ended | None:
        """Watch until the trainer ends, a finding asks to act, or a signal comes."""
        while True:
            wait_s = self._inspector.next_look_s()
            self._arrived(_POLL_S if wait_s is None else min(wait_s, _POLL_S))
            for outcome in self._inspector.work():
                self._on_judged(outcome)
                self._prove(attempt, ended=False)
                if self._acts(outcome.judged):
                    return None
            if self._signals:
                return None
            end = process.poll()
            if end is not None:
                return end

    def _stop(self, process: TrainerProcess, attempt: Attempt) -> None:
        report = process.stop(self._settings.grace_s)
        if report.asked:
            many = f"{len(report.asked)} process{'es' if len(report.asked) > 1 else ''}"
            how = f", {len(report.killed)} of them by SIGKILL" if report.killed else ""
            message = f"stopped the trainer ({many}{how}) in {report.took_s:.1f} s"
            self._say(attempt, "action", message, "stop")

    def _repair(self, attempt: Attempt, faulty: Sequence[Judged]) -> TrainerProcess | int:
        """Quarantine, plan and start again; the exit code when there is no next attempt."""
        self._prove(attempt, ended=True)
        self._repairer.quarantine(attempt, faulty)
        self._journal.attempt_ended(attempt, exit_code=None, outcome="faulty")
        if self._settings.policy == "stop":
            return self._end_here(attempt, "the policy is to stop", STOPPED_BY_POLICY)
        plan = self._repairer.plan(attempt, faulty)
        if isinstance(plan, str):
            return self._end_here(attempt, plan, GAVE_UP)
        self._wait(self._backoff_s(attempt.attempt))
        if self._signals:
            return 128 + self._signals[0]
        process = self._start_plan(plan)
        self._repairer.close(attempt)
        return process

    def _end_here(self, attempt: Attempt, why: str, code: int) -> int:
        self._repairer.close(attempt)
        self._say(attempt, "outcome", why, "end")
        return code

    def _finished(self, attempt: Attempt, end: Ended) -> int:
        mine = [j for j in self._journal.judged(self._run_id) if j.attempt == attempt.attempt]
        faulty = bool(mine) and mine[-1].level == "faulty"
        outcome = "faulty" if faulty else "ended"
        self._journal.attempt_ended(attempt, exit_code=end.code, outcome=outcome)
        code = "unknown" if end.code is None else end.code
        last = f"its last checkpoint is {mine[-1].level}" if mine else "it wrote no checkpoint"
        self._say(attempt, "outcome", f"the trainer ended with code {code}; {last}", "end")
        if faulty:
            return ENDED_FAULTY
        return end.code or 0

    def _interrupted(self, process: TrainerProcess, attempt: Attempt) -> int:
        number = self._signals[0]
        process.stop(self._settings.grace_s)
        self._drain()
        self._journal.attempt_ended(attempt, exit_code=None, outcome="interrupted")
        name = signal.Signals(number).name
        self._say(attempt, "outcome", f"{name}: stopped the trainer and ended", "signal")
        return 128 + number

    # -- looking --------------------------------------------------------------------------

    def _arrived(self, timeout_s: float) -> None:
        self._inspector.arrived(self._arrivals.take(timeout_s), self._settings.roots)

    def _drain(self) -> None:
        """Judge everything that lies there, waiting for what is still settling."""
        everything = Arrived(dirty=frozenset(), closed=frozenset(), rescan=True)
        self._inspector.arrived(everything, self._settings.roots)
        deadline = self._clock() + self._settings.verdict_timeout_s
        while self._inspector.pending and self._clock() < deadline:
            for outcome in self._inspector.work():
                self._on_judged(outcome)
            self._wait(min(self._inspector.next_look_s() or 0.0, deadline - self._clock()))

    def _wait(self, seconds: float) -> None:
        """Wait, but not past a signal."""
        deadline = self._clock() + seconds
        while (left := deadline - self._clock()) > 0 and not self._signals:
            self._arrived(left)

    def _own_choice(self) -> Judged | None:
        """Return the checkpoint the trainer would begin from by itself, if it is known."""
        known = [j for j in self._journal.judged(self._run_id) if j.path.exists()]
        recipe = self._settings.recipe
        if recipe is not None:
            named = chosen_checkpoint(recipe, self._settings.command, self._settings.cwd)
            if named is not None:
                return next((j for j in reversed(known) if j.path == named), None)
            if not recipe.picks.latest:
                return None
        return max(known, key=lambda j: -1 if j.step is None else j.step, default=None)

    def _acts(self, judged: Judged) -> bool:
        return self._settings.policy != "report" and bool(acting(judged, self._settings.act_on))

    def _prove(self, attempt: Attempt, *, ended: bool) -> None:
        """Say once whether the repair that began this attempt helped."""
        if attempt.plan is None or attempt.attempt in self._verified:
            return
        judged = self._journal.judged(self._run_id)
        before = [j.loss for j in judged if j.attempt < attempt.attempt and j.loss is not None]
        proof = verify(
            Plan.from_detail(attempt.plan),
            [j for j in judged if j.attempt == attempt.attempt],
            effect=self._settings.recipe.effect if self._settings.recipe else {},
            loss_before=before[-1] if before else None,
            ended=ended,
        )
        if proof is None:
            return
        self._verified.add(attempt.attempt)
        detail = {
            "result": proof.result,
            "loss_before": proof.loss_before,
            "loss_after": proof.loss_after,
        }
        self._say(attempt, "outcome", f"repair {proof.result}: {proof.message}", "proof", detail)

    # -- small things -----------------------------------------------------------------------

    def _take_attempt(self, attempt: Attempt | None) -> None:
        self._runs.attempt = attempt.attempt if attempt else 0
        self._runs.parent = attempt.parent if attempt else None

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

    def _backoff_s(self, attempt: int) -> float:
        longest_s = self._settings.backoff_max_s
        return min(self._settings.backoff_s * 2.0 ** (attempt - 1), longest_s)

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        """Only take note of signals; the loop acts on them."""

        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)
            self._arrivals.wake()

        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, note) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _find(attempt: Attempt) -> TrainerProcess | None:
    """Return the attempt's trainer if it lives, also when its pid was never written down."""
    mark = _marker(attempt)
    if attempt.pid is None or attempt.pid_started is None:
        return TrainerProcess.find(mark)
    return TrainerProcess.adopt(ProcessIdentity(attempt.pid, attempt.pid_started), mark=mark)


def _marker(attempt: Attempt) -> str:
    """Return the mark that every process of an attempt carries in its environment."""
    return f"{attempt.run_id}:{attempt.attempt}"
