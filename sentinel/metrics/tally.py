"""What the daemon has told of each run, counted: plain numbers that another thread may read.

Every number is what the journal holds, taken over at the start, and what is judged from then on.
A checkpoint is judged once, so it is counted once, whatever is killed and started again.
"""

from __future__ import annotations

import copy
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sentinel.health.rows import LOSS, CheckpointRow, EventRow
from sentinel.verdict import Level, Severity, Verdict

RUNS_LIMIT = 200
"""So many runs are told of at most: those with the newest checkpoints."""

RunState = Literal["training", "ended", "ended_faulty", "gave_up", "stopped_by_policy",
                   "interrupted"]  # fmt: skip

HUNG_DETAIL = "still_s"
"""What the detail of an event holds that says a training hangs: for how many seconds."""


@dataclass(slots=True)
class RunTally:
    """The numbers of one run; what no checkpoint has told yet is None.

    ``roots`` are its directories, ``place`` is where its newest checkpoint was written.
    ``repaired`` holds the attempts after which it was planned to go on differently, ``proofs``
    what became of the repair that began an attempt: it may change until that attempt is over.
    """

    name: str
    roots: tuple[Path, ...] = ()
    verdicts: Counter[Level] = field(default_factory=Counter)
    findings: Counter[tuple[str, Severity]] = field(default_factory=Counter)
    level: Level | None = None
    step: int | None = None
    loss: float | None = None
    size_bytes: int | None = None
    written_s: float | None = None
    place: Path | None = None
    attempts: int = 0
    repaired: set[int] = field(default_factory=set)
    proofs: dict[int, str] = field(default_factory=dict)
    hangs: int = 0
    state: RunState | None = None

    def judged(self, row: CheckpointRow, verdict: Verdict, written_s: float | None) -> None:
        """Count a verdict."""
        self.verdicts[verdict.level] += 1
        self.findings.update((found.rule, found.severity) for found in verdict.findings)
        self.level, self.step = verdict.level, row.step
        loss = row.settings.get(LOSS)
        self.loss = float(loss) if isinstance(loss, float | int) else self.loss
        self.size_bytes, self.place = row.size_bytes, Path(row.path).parent
        self.written_s = written_s or self.written_s
        self.attempts = max(self.attempts, row.attempt)

    def told(self, event: EventRow) -> None:
        """Count what an event tells."""
        detail = event.detail
        if event.kind == "attempt":
            self.attempts, self.state = max(self.attempts, event.attempt), "training"
        elif event.kind == "plan":
            self.repaired.add(event.attempt)
        elif "result" in detail:
            self.proofs[event.attempt] = str(detail["result"]).replace(" ", "_")
        elif HUNG_DETAIL in detail:
            self.hangs += 1
        elif "end" in detail:
            self.state = state_of(detail["end"]) or self.state

    @property
    def proved(self) -> Counter[str]:
        """Count the last word on each repair whose attempt is over."""
        is_over = self.state not in {"training", None}
        return Counter(
            result for number, result in self.proofs.items() if is_over or number < self.attempts
        )

    @property
    def is_gone(self) -> bool:
        """Tell whether nothing of the run lies where it was."""
        places = (*self.roots, *((self.place,) if self.place else ()))
        return not any(map(os.path.lexists, places))


class Tallies:
    """The runs of one daemon, written by its thread and read by those that serve a scrape."""

    def __init__(self) -> None:
        self._runs: dict[str, RunTally] = {}
        self._lock = threading.Lock()

    def take(self, run_id: str, tally: RunTally) -> None:
        """Take over what was known of a run before."""
        with self._lock:
            self._runs[run_id] = tally

    def judged(self, row: CheckpointRow, verdict: Verdict, written_s: float | None) -> None:
        """Count a verdict of whatever run."""
        with self._lock:
            self._of(row.run_id, Path(row.path).parent).judged(row, verdict, written_s)

    def told(self, event: EventRow) -> None:
        """Count what an event tells of its run."""
        with self._lock:
            self._of(event.run_id, None).told(event)

    def runs(self) -> dict[str, RunTally]:
        """Return a copy of what is known, without the runs that are gone or long past."""
        with self._lock:
            known = copy.deepcopy(self._runs)
        # The disk is asked outside the lock: one that hangs keeps a scrape, never the daemon.
        there = {run_id: tally for run_id, tally in known.items() if not tally.is_gone}
        newest = sorted(there, key=lambda run_id: there[run_id].written_s or 0.0)[-RUNS_LIMIT:]
        return {run_id: there[run_id] for run_id in newest}

    def _of(self, run_id: str, place: Path | None) -> RunTally:
        if run_id not in self._runs:
            roots = () if place is None else (place,)
            self._runs[run_id] = RunTally(name_of(place), roots)
        return self._runs[run_id]


def state_of(end: object) -> RunState | None:
    """Return the state that an attempt's end leads to, None for one that leads to none."""
    match end:
        case "ended" | "ended_faulty" | "gave_up" | "stopped_by_policy" | "interrupted":
            return end
        case _:
            return None


def name_of(place: Path | None) -> str:
    """Return what a run is called for people: the last two parts of its directory."""
    if place is None:
        return ""
    shown = "/".join(place.parts[-2:]).strip("/")
    return shown.encode("utf-8", "backslashreplace").decode()
