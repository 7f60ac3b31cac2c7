"""The table at the foot of the terminal while `sentinel watch` runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live

from sentinel.daemon.standing import standing
from sentinel.reports.live import LiveTable, Standing

if TYPE_CHECKING:
    from sentinel.cli.telling import Told
    from sentinel.daemon.watch import Watch

_REDRAWN_PER_S = 1
"""An age tells seconds; drawing more often would cost the training beside it."""


@contextmanager
def live(told: Told, watch: Watch, roots: Sequence[Path], journal: Path) -> Iterator[None]:
    """Keep a table of the runs below the lines that are said; it stays when it ends."""
    table = LiveTable(told.here, reading=lambda: watch.reading, pending=lambda: watch.pending)
    for judged in standing(journal, roots):
        newest = judged[-1]
        bad = sum(one.level != "healthy" for one in judged)
        table.known(
            newest.run_id,
            Standing(newest.path.parent, newest.step, newest.level, None, len(judged), bad),
        )
    told.table = table
    try:
        with Live(
            table,
            console=told.out,
            refresh_per_second=_REDRAWN_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield
    finally:
        told.table = None
