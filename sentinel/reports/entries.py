"""What a report is made from: judged checkpoints and where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sentinel.checkpoint import Checkpoint
from sentinel.stats.quick import Skipped
from sentinel.verdict import LEVELS, Level, Verdict


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """One judged checkpoint; run, attempt and id are None where no run is known.

    ``skipped`` is what a quick look left out, None of a whole one.
    """

    checkpoint: Checkpoint
    verdict: Verdict
    run: str | None = None
    attempt: int | None = None
    checkpoint_id: str | None = None
    skipped: Skipped | None = None


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Everything one scan said, in the order it is told."""

    entries: tuple[ScanEntry, ...]

    @property
    def summary(self) -> dict[Level, int]:
        """Return how many checkpoints got each verdict, also those nobody got."""
        counts = Counter(entry.verdict.level for entry in self.entries)
        return {level: counts[level] for level in (*LEVELS[:2], "faulty", "unreadable")}
