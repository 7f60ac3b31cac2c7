"""What counts: which checkpoints show the fault, and whether a training was repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.flow import Judgement

CLOSE = 1.1
"""A final loss at most this many times the healthy twin's counts as repaired."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended: whether the fault is gone, and its last evaluated loss."""

    gone: bool
    loss: float | None
    step: int | None

    def repaired(self, twin_loss: float | None) -> bool:
        """Tell whether the fault is gone and the loss that of the healthy twin."""
        if not self.gone or self.loss is None or twin_loss is None:
            return False
        return self.loss <= CLOSE * twin_loss


def failing(judged: Sequence[Judgement], wanted: frozenset[str]) -> list[Judgement]:
    """Return the checkpoints from the first one on that shows the fault, or is faulty at all."""
    for at, one in enumerate(judged):
        rules = {found.rule for found in one.verdict.findings}
        if rules & wanted or one.verdict.level in {"faulty", "unreadable"}:
            return list(judged[at:])
    return []


def outcome(judged: Sequence[Judgement], wanted: frozenset[str], *, steps: int) -> Outcome:
    """Return how a training ended; one that did not come to its last step is not repaired."""
    if not judged:
        return Outcome(gone=False, loss=None, step=None)
    last = judged[-1]
    losses = [m.value for m in last.checkpoint.metrics if m.name == "eval_loss"]
    ended = last.checkpoint.step == steps
    loss = losses[-1] if losses else None
    return Outcome(ended and not failing([last], wanted), loss, last.checkpoint.step)
