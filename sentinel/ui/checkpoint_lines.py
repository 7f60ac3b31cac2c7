"""The checkpoints of a run as lines of a table, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from sentinel.reports.words import shown
from sentinel.ui.look import Look
from sentinel.ui.pages import PAGE_SIZE

_LINES = """
SELECT checkpoint_id, attempt, step, seq, verdict, reason, path, judged_at,
       losses[-1] AS loss, count(*) OVER () AS total
FROM checkpoints
WHERE run_id = ? AND (? = '' OR verdict = ?)
ORDER BY attempt DESC, seq DESC
LIMIT ? OFFSET ?
"""


@dataclass(frozen=True, slots=True)
class CheckpointLine:
    """One checkpoint, safe to show; ``step`` and ``loss`` are "" when unknown."""

    checkpoint_id: str
    name: str
    attempt: int
    step: str
    level: str
    reason: str
    loss: str
    judged_at: datetime


def checkpoint_lines(
    look: Look, run_id: str, *, verdict: str, offset: int
) -> tuple[list[CheckpointLine], int]:
    """Return a page of a run's checkpoints, and how many there are of that verdict ("": of any)."""
    found = look.ask(_LINES, run_id, verdict, verdict, PAGE_SIZE, offset, run_id=run_id)
    lines = [
        CheckpointLine(
            checkpoint_id=str(row["checkpoint_id"]),
            name=shown(PurePath(str(row["path"])).name),
            attempt=row["attempt"],
            step="" if row["step"] is None else f"{row['step']:,}",
            level=shown(str(row["verdict"])),
            reason=shown(row["reason"] or ""),
            loss="" if row["loss"] is None else f"{row['loss']:.4g}",
            judged_at=row["judged_at"],
        )
        for row in found
    ]
    return lines, found[0]["total"] if found else 0
