"""One run as the pictures need it: its rows, where each stands, and what was done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sentinel.health.reading import read_run
from sentinel.health.rows import CheckpointRow, EventRow

QUARANTINED, PINNED = "quarantined ", "pinned "
"""How the messages of these actions begin."""

STARTED = " started: "
"""Stands in the message of an attempt whose trainer sentinel started."""


@dataclass(frozen=True)
class Told:
    """A run of the health log at ``root``; rows in the order of attempt, step and seq."""

    root: Path
    run_id: str
    rows: tuple[CheckpointRow, ...]
    events: tuple[EventRow, ...]

    @cached_property
    def by_id(self) -> Mapping[str, CheckpointRow]:
        """Return the checkpoints by their ids."""
        return {row.checkpoint_id: row for row in self.rows}

    @cached_property
    def step_of(self) -> Mapping[str, int]:
        """Return where each checkpoint is drawn: its step, else that of the one before it.

        In a run of which no step is known it is its number in the order seen.
        """
        if not self.knows_steps:
            return {row.checkpoint_id: row.seq for row in self.rows}
        places: dict[str, int] = {}
        last: dict[int, int] = {}
        for row in sorted(self.rows, key=lambda row: row.seq):
            step = last.get(row.attempt, 0) if row.step is None else row.step
            places[row.checkpoint_id] = last[row.attempt] = step
        return places

    @cached_property
    def knows_steps(self) -> bool:
        """Tell whether any checkpoint of the run has a step."""
        return any(row.step is not None for row in self.rows)

    @cached_property
    def newest(self) -> CheckpointRow | None:
        """Return the checkpoint that came last, None of a run without any."""
        return max(self.rows, key=lambda row: (row.attempt, row.seq), default=None)

    @cached_property
    def last_step(self) -> int:
        """Return the largest place of a checkpoint or a logged loss, at least 1."""
        losses = (step for row in self.rows for step in row.loss_steps[-1:])
        return max(1, *self.step_of.values(), *losses)

    @cached_property
    def attempts(self) -> tuple[int, ...]:
        """Return the attempts' numbers; 0 is what lay there before the first one."""
        started = {event.attempt for event in self.events if event.kind == "attempt"}
        return tuple(sorted({row.attempt for row in self.rows} | started))

    @cached_property
    def is_supervised(self) -> bool:
        """Tell whether `sentinel run` started the trainer, so that `sentinel resume` can."""
        return any(event.kind == "attempt" and STARTED in event.message for event in self.events)

    @cached_property
    def moved(self) -> frozenset[str | None]:
        """Return the checkpoints that were quarantined."""
        return self._acted(QUARANTINED)

    @cached_property
    def pinned(self) -> frozenset[str | None]:
        """Return the checkpoints that were pinned at some time."""
        return self._acted(PINNED)

    def _acted(self, beginning: str) -> frozenset[str | None]:
        return frozenset(
            event.checkpoint_id
            for event in self.events
            if event.kind == "action" and event.message.startswith(beginning)
        )


def told(root: Path, run_id: str) -> Told:
    """Return what the health log at ``root`` holds of a run."""
    read = read_run(root, run_id)
    return Told(root, run_id, read.checkpoints, read.events)
