"""What the demo shows while it works: the lines so far, and where the training is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sentinel.demo.metrics import last_metrics
from sentinel.demo.scenes import Scene
from sentinel.health.rows import LOSS, CheckpointRow
from sentinel.reports.timeline import line_for
from sentinel.reports.words import STYLE_OF_LEVEL, moment_words

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_MARGIN = len("00:00:00  unreadable  ")


class Stage:
    """A line at the foot of the terminal that moves; everything told stays above it.

    On anything but a terminal only what is told is printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._scene: Scene | None = None
        self._doing = ""
        self._spinner = Spinner("dots")
        self._healthy: list[CheckpointRow] = []
        self.live = Live(self, console=console, refresh_per_second=8, transient=True)

    def doing(self, what: str, scene: Scene | None = None) -> None:
        """Say what goes on now; with a scene, show how far its training is."""
        self._doing = what
        self._scene = scene

    def tell_checkpoint(self, row: CheckpointRow, base_dir: Path) -> None:
        """Print a line for a checkpoint; healthy ones in a row share one."""
        if row.verdict == "healthy":
            self._healthy.append(row)
        else:
            self.tell(line_for(row, base_dir=base_dir))

    def tell(self, line: Text | str) -> None:
        """Print a line that stays, after what was kept back."""
        kept, self._healthy = self._healthy, []
        if kept:
            self._print(_together(kept))
        self._print(line)

    def _print(self, line: Text | str) -> None:
        wraps = self._console.is_terminal or self._console.record
        if wraps and isinstance(line, Text):
            self._console.print(_hanging(line))
        else:
            self._console.print(line, soft_wrap=not wraps)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the moving line as it is at this moment."""
        del console, options
        self._spinner.update(text=Text(self._doing, style="bold"))
        if self._scene is None:
            yield self._spinner
        else:
            yield Group(self._spinner, _training(self._scene))


def _hanging(line: Text) -> Table:
    """Return a line whose sentence wraps beside its time and word, not below them."""
    grid = Table.grid()
    grid.add_column(width=_MARGIN, no_wrap=True)
    grid.add_column()
    grid.add_row(line[:_MARGIN], line[_MARGIN:])
    return grid


def _together(rows: Sequence[CheckpointRow]) -> Text:
    """Return one line for healthy checkpoints in a row."""
    first, last = rows[0], rows[-1]
    if first is last:
        return line_for(replace(last, path=Path(last.path).name))
    losses = " -> ".join(_number(row.settings.get(LOSS)) for row in (first, last))
    return Text.assemble(
        (moment_words(last.judged_at, None), "dim"),
        ("  healthy     ", STYLE_OF_LEVEL["healthy"]),
        f"steps {first.step} to {last.step}, {len(rows)} checkpoints  loss {losses}",
    )


def _training(scene: Scene) -> Table:
    numbers = last_metrics(scene.output)
    step = numbers.get("step")
    done = step if isinstance(step, int) else 0
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text(f"  step {done:>3} of {scene.steps}"),
        ProgressBar(total=scene.steps, completed=done, width=30),
        Text(f"loss {_number(numbers.get('loss'))}"),
    )
    return grid


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "..."
