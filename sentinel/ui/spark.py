"""A picture of a run as small as a word: its loss as a line, its worst verdicts as marks below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 144, 30
_LINE_TOP, _LINE_BOTTOM, _MARKS_TOP = 2.0, 20.0, 25.0


@dataclass(frozen=True, slots=True)
class SparkMark:
    """A stretch of checkpoints by its gravest verdict, in pixels."""

    x: float
    width: float
    level: str


@dataclass(frozen=True, slots=True)
class Spark:
    """``line`` holds the points of a polyline, "" where no loss is known; ``says`` the words."""

    line: str
    marks: tuple[SparkMark, ...]
    says: str


def spark_of(losses: Sequence[float | None], levels: Sequence[str]) -> Spark:
    """Return the picture of equal stretches of a run; of each its loss and its gravest verdict."""
    if not levels:
        return Spark("", (), "no checkpoint yet")
    step = WIDTH / len(levels)
    known = [(n, loss) for n, loss in enumerate(losses) if loss is not None]
    low, high = (min((v for _, v in known), default=0), max((v for _, v in known), default=0))
    span = (high - low) or 1.0
    rise = _LINE_BOTTOM - _LINE_TOP
    points = [
        f"{step * (n + 0.5):.1f},{_LINE_BOTTOM - (loss - low) / span * rise:.1f}"
        for n, loss in known
    ]
    marks = tuple(
        SparkMark(round(step * n + 0.5, 1), round(max(step - 1, 1), 1), level)
        for n, level in enumerate(levels)
    )
    says = f"loss {known[0][1]:.3g} to {known[-1][1]:.3g}" if known else "no loss logged"
    bad = sum(level in {"faulty", "unreadable"} for level in levels)
    if bad:
        says += f"; bad in {bad} of {len(levels)} stretches"
    return Spark(" ".join(points) if len(points) > 1 else "", marks, says)
