"""The rows of the health log as values: a judged checkpoint, and something that happened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from sentinel.checkpoint import Checkpoint, Part
from sentinel.health.identity import event_id
from sentinel.health.plain import path_text
from sentinel.verdict import Level, Severity, Verdict

EventKind = Literal["finding", "plan", "action", "outcome", "attempt"]

LOSS = "metrics.loss"
"""Where a checkpoint's settings keep the newest loss that the trainer logged."""


MOST_LOSSES = 50
"""Losses that a row keeps of those since the checkpoint before: enough to draw a curve."""


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One row of ``checkpoints``; every time must know its zone.

    ``seq`` counts the checkpoints of a run in the order they were seen; ``parent`` is the id
    of the checkpoint this one grew from (at the start of an attempt: where it began), None
    when unknown. ``holding`` names the rules with `for` whose predicate held here. ``losses`` are
    what the trainer logged at ``loss_steps`` since the checkpoint before, at most `MOST_LOSSES`.
    """

    run_id: str
    attempt: int
    seq: int
    checkpoint_id: str
    parent: str | None
    path: str
    layout: str
    trainer: str | None
    step: int | None
    epoch: float | None
    updates_done: int | None
    size_bytes: int
    tensor_count: int
    dtypes: tuple[str, ...]
    verdict: Level
    usable: tuple[Part, ...]
    reason: str | None
    seen_at: datetime
    settled_at: datetime | None
    judged_at: datetime
    measure_s: float | None = None
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    holding: tuple[str, ...] = ()
    loss_steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row of ``events``; ``at`` must know its zone.

    ``remedy`` is what a rule asks for, ``detail`` whatever else belongs to this kind of event
    (a plan's settings, an outcome's loss before and after).
    """

    event_id: str
    run_id: str
    attempt: int
    kind: EventKind
    message: str
    at: datetime
    checkpoint_id: str | None = None
    rule: str | None = None
    severity: Severity | None = None
    tensors: tuple[str, ...] = ()
    remedy: Mapping[str, object] | None = None
    detail: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def checkpoint_row(
    checkpoint: Checkpoint,
    verdict: Verdict,
    *,
    run_id: str,
    attempt: int,
    seq: int,
    checkpoint_id: str,
    parent: str | None,
    seen_at: datetime,
    settled_at: datetime | None,
    judged_at: datetime,
    measure_s: float | None,
    holding: Iterable[str] = (),
    losses_after: int | None = None,
) -> CheckpointRow:
    """Return the row that says what was judged, and how.

    ``losses_after`` is the step of the checkpoint before; from there on losses are kept.

    Its settings also hold the last of each number the trainer logged up to here, by the name
    ``metrics.<name>``.
    """
    losses = _losses(checkpoint, -1 if losses_after is None else losses_after)
    return CheckpointRow(
        run_id=run_id,
        attempt=attempt,
        seq=seq,
        checkpoint_id=checkpoint_id,
        parent=parent,
        path=path_text(checkpoint.path),
        layout=checkpoint.layout,
        trainer=checkpoint.trainer,
        step=checkpoint.step,
        epoch=checkpoint.epoch,
        updates_done=checkpoint.updates_done,
        size_bytes=checkpoint.size_bytes,
        tensor_count=len(checkpoint.tensors),
        dtypes=tuple(sorted({tensor.dtype for tensor in checkpoint.tensors})),
        verdict=verdict.level,
        usable=verdict.usable,
        reason=verdict.reason,
        seen_at=seen_at,
        settled_at=settled_at,
        judged_at=judged_at,
        measure_s=measure_s,
        settings={**checkpoint.settings, **_last_metrics(checkpoint)},
        holding=tuple(sorted(holding)),
        loss_steps=tuple(step for step, _ in losses),
        losses=tuple(loss for _, loss in losses),
    )


def _losses(checkpoint: Checkpoint, after: int) -> list[tuple[int, float]]:
    """Return steps and losses after a step and up to here, the newest always among them."""
    by_step = {
        metric.step: metric.value
        for metric in checkpoint.metrics
        if metric.name == "loss"
        and after < metric.step
        and (checkpoint.step is None or metric.step <= checkpoint.step)
    }
    newest_first = sorted(by_step.items(), reverse=True)
    every = -(-len(newest_first) // MOST_LOSSES) or 1
    return newest_first[::every][::-1]


def _last_metrics(checkpoint: Checkpoint) -> dict[str, float]:
    known = sorted(checkpoint.metrics, key=lambda metric: metric.step)
    return {
        f"metrics.{metric.name}": metric.value
        for metric in known
        if checkpoint.step is None or metric.step <= checkpoint.step
    }


def finding_events(
    verdict: Verdict, *, run_id: str, attempt: int, checkpoint_id: str, at: datetime
) -> tuple[EventRow, ...]:
    """Return one event a finding, in the verdict's order, named so that a repeat is the same."""
    return tuple(
        EventRow(
            event_id=event_id(
                run_id=run_id,
                attempt=attempt,
                kind="finding",
                about=(checkpoint_id, finding.rule, index),
            ),
            run_id=run_id,
            attempt=attempt,
            kind="finding",
            message=finding.message,
            at=at,
            checkpoint_id=checkpoint_id,
            rule=finding.rule,
            severity=finding.severity,
            tensors=finding.tensors,
            remedy=finding.remedy,
            detail={
                "tensor_count": finding.tensor_count,
                "safety": finding.safety,
                "scope": finding.scope,
                "parts": finding.parts,
            },
        )
        for index, finding in enumerate(verdict.findings)
    )
