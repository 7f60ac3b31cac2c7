"""How a supervised run begins: anew, where a killed sentinel stopped, or elsewhere than told."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentinel.checkpoint import path_text
from sentinel.daemon.attending import Attending
from sentinel.daemon.journal import Attempt, Journal, Judged
from sentinel.daemon.launching import Launcher, RunSettings
from sentinel.daemon.preflighting import Preflight
from sentinel.daemon.process import TrainerProcess
from sentinel.daemon.quarantining import Quarantiner
from sentinel.daemon.repairing import Repairer, step_order
from sentinel.daemon.runs import SupervisedRuns
from sentinel.daemon.telling import Teller
from sentinel.repairs.plan import Plan

SIGNALLED = 128
"""Ended by signal N: 128 + N, as shells have it."""


@dataclass(frozen=True, slots=True)
class Repair:
    """An attempt that is to be repaired first, and its checkpoints that ask for it.

    ``asked`` says that the user asks for it, whatever the policy is.
    """

    attempt: Attempt
    faulty: tuple[Judged, ...]
    asked: bool = False


_OVER = "nothing to resume: it ended by itself with code 0, and its last checkpoint is healthy"

Decision = TrainerProcess | Attempt | Plan | Repair | int
"""A trainer that still runs, an attempt to start, a plan to start, a repair, or the exit code."""


class Beginning:
    """What one run begins with, as the journal and what lies there tell it.

    Nothing is started or moved here but what a killed sentinel had begun to move.
    """

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
        preflight: Preflight,
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
        self._preflight = preflight
        self._teller = teller
        self._on_note = on_note
        self._reports_only = settings.policy == "report"

    def decide(self) -> Decision:
        """Return what comes first: where a killed sentinel stopped, else the user's command."""
        last = self._journal.last_attempt(self._run_id)
        self._runs.take(last)
        if last is None or last.state == "ended":
            self._finish_quarantine()
            return self._open_repair(last) or self._ended(last)
        process = self._launcher.find(last)
        if process is not None:
            pid = process.identity.pid
            self._teller.tell(
                "action",
                f"found the trainer still running (pid {pid})",
                attempt=last.attempt,
                about=("adopt",),
            )
            return process
        if last.state == "planned":
            self._finish_quarantine()
            return self._planned(last)
        return self._lost(last)

    def foresee(self) -> tuple[tuple[Judged, ...], Plan | str]:
        """Return what a resume would move away and how it would begin, or why it would not.

        What lies there is judged, and nothing else is done.
        """
        last = self._journal.last_attempt(self._run_id)
        if last is None:
            return (), "it was never started"
        if last.state != "ended" and (process := self._launcher.find(last)) is not None:
            return (), f"its trainer is running (pid {process.identity.pid})"
        self._runs.take(last)
        self._drain()
        faulty = tuple(self._repairer.by_hand(last))
        if not faulty and self._is_over(last):
            return (), _OVER
        plan = self._repairer.foresee(last, faulty)
        return tuple(judged for judged in faulty if not judged.target), plan

    def _ended(self, last: Attempt | None) -> Decision:
        """Go on after an end that sentinel saw: by the user's command, or as a resume goes on."""
        if last is None or not self._settings.resumes:
            return self._fresh(last)
        self._drain()
        faulty = self._repairer.by_hand(last)
        if faulty:
            self._repairer.open(last, is_over=last.exit_code == 0)
            return Repair(last, tuple(faulty), asked=True)
        if self._is_over(last):
            self._say(last, _OVER, "over")
            return 0
        return self._repairer.go_on(last) or self._fresh(last)

    def _is_over(self, last: Attempt) -> bool:
        newest = next(iter(self._journal.newest(self._run_id, last.attempt, limit=1)), None)
        return last.exit_code == 0 and newest is not None and newest.level == "healthy"

    def _lost(self, last: Attempt) -> Decision:
        """Go on after an attempt whose trainer is gone without sentinel having seen its end."""
        self._launcher.clear(last)
        self._finish_quarantine()
        self._drain()
        repair = self._open_repair(last)
        if repair is not None:
            return repair
        self._journal.attempt_ended(last, exit_code=None, outcome="lost")
        self._say(last, "the trainer ended unseen; its exit code is unknown", "lost")
        if self._reports_only:
            return self._fresh(last)
        faulty = self._repairer.faulty(last.attempt)
        if faulty:
            return Repair(last, tuple(faulty))
        return self._repairer.continue_plan(last) or self._fresh(last)

    def _open_repair(self, last: Attempt | None) -> Repair | None:
        if last is None or self._reports_only or not self._repairer.is_open(last):
            return None
        self._drain()
        return Repair(last, tuple(self._repairer.faulty(last.attempt)))

    def _planned(self, last: Attempt) -> Decision:
        """Start what was planned, unless its beginning is gone or the user changed the command."""
        plan = Plan.from_detail(last.plan) if last.plan and self._settings.recipe else None
        gone = plan is not None and is_gone(plan)
        command = self._launcher.composed(self._run_id, plan).command
        if not gone and last.command == command:
            return last
        self._journal.attempt_ended(last, exit_code=None, outcome="not started")
        if gone:
            plan = self._repairer.continue_plan(last)
        return plan or self._fresh(last)

    def _fresh(self, last: Attempt | None) -> Decision:
        """Judge what lies there, and take the user's command unless its own choice is faulty."""
        self._runs.take(last)
        self._drain()
        if self._attending.signal is not None:
            return SIGNALLED + self._attending.signal
        chosen = own_choice(self._settings, self._repairer.on_disk())
        if chosen is not None and not chosen.target:
            where = f"'{chosen.path}', which the trainer would begin from, is {chosen.level}"
            if not self._reports_only:
                return self._elsewhere(chosen, last, where)
            self._say(last, f"{where}; started all the same, as told", "begin")
        before = self._before(last, chosen)
        if before is not None:
            return before
        return self._journal.plan_attempt(
            self._run_id,
            parent=chosen.checkpoint_id if chosen is not None else None,
            command=self._settings.command,
            plan=None,
        )

    def _before(self, last: Attempt | None, chosen: Judged | None) -> Plan | int | None:
        """Say what is wrong before step 1; return how it begins instead, None for as told."""
        number = last.attempt + 1 if last else 1
        before = self._preflight.told(number, chosen.path if chosen else None)
        asking = self._repairer.acting(before.findings)
        if self._reports_only or not asking:
            return None
        if self._settings.policy == "stop":
            told = "not started for what was found; the policy is to stop"
            self._say(last, told, "begin", end="stopped_by_policy")
            return self._settings.exit_codes.stopped_by_policy
        start = before.start
        if start is not None and any(found.scope == "content" for found in asking):
            where = f"'{path_text(start.checkpoint.path)}', from which it would begin"
            self._say(
                last, f"{where}, is {start.verdict.level}; name another", "begin", end="gave_up"
            )
            return self._settings.exit_codes.gave_up
        if start is not None:  # somewhere else, and no recipe moves a start to there
            return None
        return self._repairer.plan_first(asking, chosen, number)

    def _elsewhere(self, chosen: Judged, last: Attempt | None, where: str) -> Plan | int:
        """Begin from another checkpoint than the one the user's command names."""
        if self._settings.policy == "stop":
            self._say(last, f"{where}; the policy is to stop", "begin", end="stopped_by_policy")
            return self._settings.exit_codes.stopped_by_policy
        plan = self._repairer.plan_before_start(chosen)
        if isinstance(plan, str):
            self._say(last, f"{where}; {plan}", "begin", end="gave_up")
            return self._settings.exit_codes.gave_up
        self._say(last, f"{where}; it begins elsewhere", "begin")
        return plan

    def _finish_quarantine(self) -> None:
        if not self._reports_only:
            self._quarantiner.finish()

    def _drain(self) -> None:
        self._attending.drain_aloud(self._settings.verdict_timeout_s, self._on_note)

    def _say(self, attempt: Attempt | None, message: str, about: str, end: str = "") -> None:
        number = attempt.attempt if attempt else 0
        detail = {"end": end} if end else None
        self._teller.tell("outcome", message, attempt=number, about=(about,), detail=detail)


def own_choice(settings: RunSettings, known: Sequence[Judged]) -> Judged | None:
    """Return the checkpoint that the user's command would begin from, None when it is unknown.

    ``known`` are the judged checkpoints that lie there.
    """
    begins = settings.asked.begins
    if isinstance(begins, Path):
        same = (j for j in known if j.path == begins or _real(j.path) == _real(begins))
        return next(same, None)
    if settings.recipe is not None and begins is None:
        return None
    output = settings.asked.output
    if output is not None:  # what lies in a repair's fresh directory is not in the trainer's own
        own = Path(_real(output))
        known = [judged for judged in known if Path(_real(judged.path)).is_relative_to(own)]
    return max(known, key=step_order, default=None)


def is_gone(plan: Plan) -> bool:
    """Tell whether what a plan begins from is not there any more, nor its copy."""
    places = (plan.target_path, plan.output if plan.copy else None)
    return plan.target_path is not None and not any(map(os.path.lexists, filter(None, places)))


def _real(path: Path) -> str:
    return os.path.realpath(path)
