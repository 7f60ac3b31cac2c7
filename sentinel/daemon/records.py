"""What the journal remembers, as values: attempts, judged checkpoints, actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sentinel.verdict import Finding, Level

AttemptState = Literal["planned", "started", "ended"]
ActionState = Literal["intent", "done"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the trainer.

    ``pid_started`` is the process's start time, so that a reused pid is never taken for it; both
    are None until the process is known to live.
    """

    run_id: str
    attempt: int
    parent: str | None
    state: AttemptState
    command: tuple[str, ...]
    plan: Mapping[str, object] | None = None
    pid: int | None = None
    pid_started: float | None = None
    exit_code: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A checkpoint that has its verdict.

    ``target`` tells whether a resume may begin here, ``loss`` is the newest loss the trainer
    logged, ``quarantined_to`` is where it was moved.
    """

    checkpoint_id: str
    run_id: str
    attempt: int
    seq: int
    parent: str | None
    path: Path
    step: int | None
    updates_done: int | None
    level: Level
    target: bool
    findings: tuple[Finding, ...]
    settings: Mapping[str, object]
    loss: float | None = None
    quarantined_to: Path | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return the rules that found in its weights what asks for an earlier checkpoint."""
        return tuple(
            found.rule
            for found in self.findings
            if found.scope == "content" and "weights" in found.parts and "resume" in found.remedy
        )


@dataclass(frozen=True, slots=True)
class Action:
    """Something sentinel set out to do; ``detail`` holds all that doing it again needs."""

    run_id: str
    kind: str
    key: str
    state: ActionState
    detail: Mapping[str, object]
