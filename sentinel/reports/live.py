"""The table that `sentinel watch` keeps at the foot of a terminal: each run, and how it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sentinel.reports.words import STYLE_OF_LEVEL, path_words, shown
from sentinel.verdict import Level

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

    from sentinel.health.rows import CheckpointRow, EventRow

_GAP = "  "
_HEAD = ("run", "step", "verdict", "judged", "age", "now")
_LEAST = 12
"""Columns that a name keeps however narrow the terminal is; the line is then cut at its end."""

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Standing:
    """How one run stands: its directory, its newest verdict, and what was done about it.

    ``at`` is when that was judged, None when it was before this process; ``did`` is the newest
    event after it, "" when there was none.
    """

    place: Path
    step: int | None
    level: Level
    at: datetime | None
    count: int = 1
    bad: int = 0
    did: str = ""


class LiveTable:
    """What a rich `Live` shows; it is told what happens and rendered from another thread.

    ``reading`` and ``pending`` tell what is read just now and how much waits.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        reading: Callable[[], Path | None],
        pending: Callable[[], int],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._base_dir = base_dir
        self._reading = reading
        self._pending = pending
        self._now = now
        self._runs: dict[str, Standing] = {}

    def known(self, run_id: str, standing: Standing) -> None:
        """Take over how a run stood before this process."""
        self._runs[run_id] = standing

    def judged(self, row: CheckpointRow) -> None:
        """Hear of a verdict; the run goes to the end of the table."""
        before = self._runs.pop(row.run_id, None)
        self._runs[row.run_id] = Standing(
            place=Path(row.path).parent,
            step=row.step,
            level=row.verdict,
            at=row.judged_at,
            count=1 + (before.count if before else 0),
            bad=(row.verdict != "healthy") + (before.bad if before else 0),
        )

    def happened(self, event: EventRow) -> None:
        """Hear of what was done about a run."""
        standing = self._runs.get(event.run_id)
        if standing is not None:
            self._runs[event.run_id] = replace(standing, did=f"{event.kind}: {event.message}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield a blank, a head, a line a run (the newest in half the height), and a foot."""
        # The last column stays free: a line that fills it makes some terminals begin a new one.
        width = options.max_width - 1
        runs = tuple(self._runs.values())
        hidden = max(0, len(runs) - max(1, console.height // 2 - 2))
        reading = self._reading()
        yield Text()
        if runs:
            shown_runs = runs[hidden:]
            rows = [self._cells(one, reading, console.encoding) for one in shown_runs]
            widths = _widths([_HEAD, *rows], width)
            yield _line(_HEAD, widths, width, "bold")
            for one, row in zip(shown_runs, rows, strict=True):
                yield _line(row, widths, width, level=one.level)
        foot = Text(self._foot(hidden, reading, console.encoding), "dim", no_wrap=True)
        foot.truncate(width)
        yield foot

    def _cells(self, one: Standing, reading: Path | None, encoding: str) -> tuple[str, ...]:
        return (
            shown(path_words(one.place, self._base_dir), encoding),
            "?" if one.step is None else str(one.step),
            one.level,
            f"{one.count}, {one.bad} bad" if one.bad else str(one.count),
            "-" if one.at is None else age_words((self._now() - one.at).total_seconds()),
            shown(_doing(one, reading), encoding),
        )

    def _foot(self, hidden: int, reading: Path | None, encoding: str) -> str:
        parts = [] if self._runs else ["nothing was judged yet"]
        if hidden:
            parts.append(f"{hidden} older run{'' if hidden == 1 else 's'} not shown")
        waiting = self._pending() - (reading is not None)
        if reading is not None:
            parts.append(f"reading {shown(path_words(reading, self._base_dir), encoding)}")
        if waiting > 0:
            parts.append(f"{waiting} wait{'s' if waiting == 1 else ''} until written")
        return ", ".join([*parts, "Ctrl-C ends"])


def age_words(seconds: float) -> str:
    """Return an age in at most four characters, rounded down: 12s, 5m, 3h, 999d."""
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if seconds >= unit_s:
            return f"{min(int(seconds // unit_s), 999)}{unit}"
    return f"{max(0, int(seconds))}s"


def _doing(one: Standing, reading: Path | None) -> str:
    if reading is not None and reading.parent == one.place:
        return f"reads {reading.name}"
    return one.did or "waits"


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return how wide each column is: names and doings share what the others leave."""
    wanted = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    room = width - sum(wanted[1:-1]) - len(_GAP) * (len(wanted) - 1)
    name = max(_LEAST, min(wanted[0], max(room - wanted[-1], room // 2)))
    return [name, *wanted[1:-1], max(_LEAST, room - name)]


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    width: int,
    style: str = "",
    *,
    level: Level | None = None,
) -> Text:
    name, *middle, doing = cells
    fitted = [_tail(name, widths[0])]
    fitted += [set_cell_size(cell, room) for cell, room in zip(middle, widths[1:], strict=False)]
    parts = [Text(cell) for cell in [*fitted, _head(doing, widths[-1])]]
    if level is not None:
        parts[2].stylize(STYLE_OF_LEVEL[level])
        parts[-1].stylize("dim")
    line = Text(_GAP, style, no_wrap=True).join(parts)
    line.truncate(width)
    return line


def _head(text: str, width: int) -> str:
    """Return the beginning of a text in at most so many columns."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 3).rstrip() + "..."


def _tail(text: str, width: int) -> str:
    """Return the end of a text in exactly so many columns: of a path the end tells more."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    kept = text
    while cell_len(kept) > width - 3:
        kept = kept[1:]
    return set_cell_size(f"...{kept}", width)
