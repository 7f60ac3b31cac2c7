"""Leaving out what a picture has no room for, the gravest never."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.health.rows import CheckpointRow
from sentinel.verdict import LEVELS


def gravest(rows: Sequence[CheckpointRow]) -> CheckpointRow:
    """Return the worst of some checkpoints, of equal ones the last."""
    return max(enumerate(rows), key=lambda one: (LEVELS.index(one[1].verdict), one[0]))[1]


def thinned(rows: Sequence[CheckpointRow], most: int) -> list[CheckpointRow]:
    """Return at most ``most`` of some checkpoints in their order, of each stretch the gravest.

    A stretch never spans two attempts, so where there are more attempts than room the newest
    attempts stay.
    """
    by_attempt: dict[int, list[CheckpointRow]] = {}
    for row in rows:
        by_attempt.setdefault(row.attempt, []).append(row)
    kept = list(by_attempt.values())[-most:]
    length = -(-sum(map(len, kept)) // most) or 1
    while True:
        stretches = [
            own[start : start + length] for own in kept for start in range(0, len(own), length)
        ]
        if len(stretches) <= most:
            return [gravest(stretch) for stretch in stretches]
        length += max(1, length // 8)
