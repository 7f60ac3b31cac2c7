"""Not saying the same sentence at every checkpoint of a run."""

from __future__ import annotations

from dataclasses import replace

from sentinel.health.rows import CheckpointRow
from sentinel.verdict import Verdict


class Repeats:
    """Remembers what was said last of each run; one listener of live lines owns one."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, int], tuple[str, ...]] = {}

    def shorten(self, row: CheckpointRow, verdict: Verdict) -> CheckpointRow:
        """Return the row, with rule ids for a reason that the checkpoint before it had too."""
        rules = tuple(found.rule for found in verdict.findings)
        before = self._said.get((row.run_id, row.attempt))
        self._said[row.run_id, row.attempt] = rules
        if rules and rules == before:
            return replace(row, reason=f"still {', '.join(rules)}")
        return row
