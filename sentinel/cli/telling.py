"""Saying what happens beside a training, a line each, as `sentinel watch` and `run` do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.cli.output import complain
from sentinel.reports.repeats import Repeats
from sentinel.reports.subjects import alarms
from sentinel.reports.timeline import block_for, line_for, lines_below

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from sentinel.daemon.inspector import Outcome
    from sentinel.health.rows import CheckpointRow, EventRow
    from sentinel.reports.live import LiveTable


class Told:
    """The lines, and the table that is to know of them when there is one.

    ``quiet_below`` names the verdict below which nothing is said: "faulty", "suspect", or None for
    everything. What is done about a run is always said, and so is what could not be read.
    """

    def __init__(self, out: Console, here: Path, *, quiet_below: str | None = None) -> None:
        self.out = out
        self.here = here
        self.table: LiveTable | None = None
        self._quiet_below = quiet_below
        self._repeats = Repeats()

    def judged(self, outcome: Outcome) -> None:
        """Say a verdict; a reason that was said of the checkpoint before only by its rules."""
        row = self._repeats.shorten(outcome.row, outcome.judgement.verdict)
        if self.table is not None:
            self.table.judged(outcome.row)
        quiet = self._quiet_below
        if quiet is None or alarms(row.verdict, quiet):
            self._say(row, base_dir=self.here)

    def event(self, event: EventRow) -> None:
        """Say what was found, planned or done, and what a change changes."""
        if self.table is not None:
            self.table.happened(event)
        if self._quiet_below is not None and event.kind == "attempt":
            return
        self._say(event)
        for line in lines_below(event):
            self.out.print(line, soft_wrap=True)

    def _say(self, what: CheckpointRow | EventRow, base_dir: Path | None = None) -> None:
        if self.table is None:
            self.out.print(line_for(what, base_dir=base_dir), soft_wrap=True)
        else:
            self.out.print(block_for(what, base_dir=base_dir, encoding=self.out.encoding))

    def note(self, message: str) -> None:
        """Say something about the watching itself, on standard error."""
        if self.table is None:
            complain(message)
            return
        from rich.text import Text

        from sentinel.cli.output import console, on_screen
        from sentinel.reports.words import shown

        if on_screen(console(error=True)):
            # Through the table's console: it draws the table anew below the line.
            self.out.print(Text(f"sentinel: {shown(message)}"), soft_wrap=True)
        else:
            complain(message)
