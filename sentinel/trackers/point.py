"""What is written into a tracker: one verdict with its numbers, or one thing that happened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "sentinel/"
"""Every name in a tracker begins so: it is told apart from what the training logs."""

VERDICT, ATTEMPT, STEP = "verdict", "attempt", "step"
LAST_EVENT = "last_event"


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a run's curves; ``values`` and ``tags`` are named without the prefix.

    ``place`` is the directory of the checkpoint, ``text`` is Markdown, ``at_s`` counts from 1970.
    """

    run_id: str
    run: str
    attempt: int
    step: int
    at_s: float
    place: Path
    values: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def directory_name(self) -> str:
        """Return a name for a directory of the run's own."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.run).strip("-.")
        return f"{plain or 'run'}-{self.run_id[:8]}"
