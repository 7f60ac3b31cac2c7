"""Starting the trainer as planned, and finding it again after a kill of ours."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from sentinel.daemon.journal import Attempt, Journal
from sentinel.daemon.process import ProcessIdentity, TrainerProcess, remains
from sentinel.errors import SentinelError
from sentinel.repairs.asking import Asked
from sentinel.repairs.compose import Composed, compose
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Recipe
from sentinel.supervision import ExitCodes

Policy = Literal["auto", "stop", "report"]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the user asked `sentinel run` for.

    ``told`` is all of it in the words of the command line, for `sentinel resume`; ``resumes`` says
    that it is the one who asks.
    """

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
    exit_codes: ExitCodes = field(default_factory=ExitCodes)
    asked: Asked = field(default_factory=Asked)
    told: Mapping[str, object] = field(default_factory=dict)
    resumes: bool = False


class Launcher:
    """The trainer's processes, each written to the journal before anybody waits for it.

    Changed copies of what the user's command reads lie below ``copies``.
    """

    def __init__(self, settings: RunSettings, journal: Journal, *, copies: Path) -> None:
        self._settings = settings
        self._journal = journal
        self._copies = copies
        self.process: TrainerProcess | None = None

    def composed(self, run_id: str, plan: Plan | None) -> Composed:
        """Return the user's command, changed as planned."""
        recipe = self._settings.recipe
        if plan is None or recipe is None:
            return Composed(self._settings.command)
        return compose(
            recipe,
            self._settings.command,
            plan,
            cwd=self._settings.cwd,
            place=self._copies / run_id / str(plan.number),
        )

    def start(self, attempt: Attempt) -> TrainerProcess:
        """Start a planned attempt with what it needs in place.

        Raises RepairError or TrainerError, and then it is no attempt any more.
        """
        plan = Plan.from_detail(attempt.plan) if attempt.plan else None
        try:
            composed = self.composed(attempt.run_id, plan)
            composed.prepare()
            process = self._spawn(attempt, composed.environment)
        except SentinelError:
            self._journal.attempt_ended(attempt, exit_code=None, outcome="not started")
            raise
        return self._taken(attempt, process)

    def find(self, attempt: Attempt) -> TrainerProcess | None:
        """Return the attempt's trainer if it lives, also when its pid was never written down."""
        mark = _marker(attempt)
        if attempt.pid is None or attempt.pid_started is None:
            found = TrainerProcess.find(mark)
        else:
            identity = ProcessIdentity(attempt.pid, attempt.pid_started)
            found = TrainerProcess.adopt(identity, mark=mark)
        return None if found is None else self._taken(attempt, found)

    def clear(self, attempt: Attempt) -> None:
        """Stop what an attempt's trainer has left behind."""
        remains(_marker(attempt)).stop(self._settings.grace_s)

    def _taken(self, attempt: Attempt, process: TrainerProcess) -> TrainerProcess:
        self.process = process  # known first: the journal may refuse
        known = process.identity
        self._journal.attempt_started(attempt, pid=known.pid, pid_started=known.started_s)
        return process

    def _spawn(self, attempt: Attempt, environment: Mapping[str, str]) -> TrainerProcess:
        start = partial(
            TrainerProcess.start,
            attempt.command,
            mark=_marker(attempt),
            cwd=self._settings.cwd,
            env={**os.environ, **environment},
        )
        if self._settings.output is None:
            return start()
        with self._settings.output.open("ab") as output:
            return start(stdout=output)


def _marker(attempt: Attempt) -> str:
    """Return the mark that every process of an attempt carries in its environment."""
    return f"{attempt.run_id}:{attempt.attempt}"
