"""A scan on a console: a line a checkpoint, below it what is wrong and what to do.

On a terminal it is laid out and coloured; elsewhere each checkpoint is one whole line. A verdict
is always a word, never a colour alone. Our own text is ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from sentinel.reports.entries import ScanEntry
from sentinel.reports.findings import finding_block, note
from sentinel.reports.lines import (
    VERDICT_WIDTH,
    Line,
    Safe,
    by_reason,
    checkpoint_lines,
    summary_lines,
)
from sentinel.reports.words import STYLE_OF_LEVEL, origin_words, path_words, skipped_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_GAP = 2


def render_scan(
    entries: Sequence[ScanEntry],
    console: Console,
    base_dir: Path,
    *,
    verbose: bool = False,
    brief: bool = False,
) -> None:
    """Print what a scan found, paths relative to ``base_dir``, and a line that sums it up.

    ``verbose`` lists the rules that could not be asked and the tensors of each finding,
    ``brief`` leaves out the line that sums up.
    """
    safe = Safe(console.encoding)
    if console.is_terminal:
        _render_blocks(entries, console, safe, base_dir, verbose=verbose)
    else:
        _print_lines(checkpoint_lines(entries, safe, base_dir, verbose=verbose), console)
    if brief:
        return
    if console.is_terminal and entries and not entries[-1].verdict.findings:
        console.print()
    _print_lines(summary_lines(entries, verbose=verbose), console)


def _render_blocks(
    entries: Sequence[ScanEntry], console: Console, safe: Safe, base_dir: Path, *, verbose: bool
) -> None:
    paths = [safe(path_words(entry.checkpoint.path, base_dir)) for entry in entries]
    origins = [safe(origin_words(entry.checkpoint)) for entry in entries]
    path_width = _path_width(paths, origins, console.width)
    for entry, path, origin in zip(entries, paths, origins, strict=True):
        console.print(_headline(entry, path, origin, path_width))
        for finding in entry.verdict.findings:
            console.print(finding_block(finding, safe, verbose=verbose))
        if entry.verdict.usable and entry.verdict.level in {"faulty", "unreadable"}:
            console.print(note(f"still usable: {', '.join(entry.verdict.usable)}"))
        if entry.skipped:
            console.print(note(skipped_words(entry.skipped)))
        if verbose:
            for reason, rules in by_reason(entry.verdict.not_evaluated):
                console.print(note(safe(f"not evaluated, {reason}: {', '.join(rules)}")))
        if entry.verdict.findings:
            console.print()


def _print_lines(lines: Iterable[Line], console: Console) -> None:
    for (first, style), *others in lines:
        line = Text(first, style)
        for text, its_style in others:
            line.append(text, its_style)
        console.print(line, soft_wrap=True)


def _path_width(paths: Iterable[str], origins: Iterable[str], width: int) -> int:
    """Return how wide the column of paths is: as wide as needed, at most what is left over."""
    longest = max(map(len, paths), default=0)
    left = width - VERDICT_WIDTH - max(map(len, origins), default=0) - 2 * _GAP
    return max(min(longest, left), width // 3)


def _headline(entry: ScanEntry, path: str, origin: str, path_width: int) -> Table:
    from rich.table import Table  # noqa: PLC0415 - only for a terminal

    level = entry.verdict.level
    line = Table.grid(padding=(0, _GAP, 0, 0))
    line.add_column(width=VERDICT_WIDTH, no_wrap=True)
    line.add_column(width=path_width, overflow="fold")
    line.add_column(overflow="fold")
    line.add_row(
        Text(level, STYLE_OF_LEVEL[level]),
        Text(path, "bold" if level != "healthy" else ""),
        Text(origin, "dim"),
    )
    return line
