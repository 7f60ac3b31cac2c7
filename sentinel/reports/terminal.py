"""A scan as text: a line a checkpoint, below it what is wrong and what to do.

On a terminal it is laid out and coloured; in a pipe each checkpoint is one whole line, so that
`grep faulty` works. A verdict is always a word, never a colour alone. Our own text is ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.reports.findings import Safe, by_reason, finding_block, finding_line, note
from sentinel.reports.words import (
    STYLE_OF_LEVEL,
    origin_words,
    path_words,
    skipped_words,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_VERDICT_WIDTH = len("unreadable")
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
    if console.is_terminal:
        _render_blocks(entries, console, base_dir, verbose=verbose)
    else:
        _render_lines(entries, console, base_dir, verbose=verbose)
    if not brief:
        _render_summary(entries, console, verbose=verbose)


def _render_blocks(
    entries: Sequence[ScanEntry], console: Console, base_dir: Path, *, verbose: bool
) -> None:
    safe = Safe(console)
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


def _render_lines(
    entries: Sequence[ScanEntry], console: Console, base_dir: Path, *, verbose: bool
) -> None:
    safe = Safe(console)
    for entry in entries:
        parts = [origin_words(entry.checkpoint)]
        parts += [skipped_words(entry.skipped)] if entry.skipped else []
        parts += map(finding_line, entry.verdict.findings)
        if verbose:
            parts += [
                f"not evaluated, {reason}: {', '.join(rules)}"
                for reason, rules in by_reason(entry.verdict.not_evaluated)
            ]
        level = entry.verdict.level
        line = Text(f"{level:<{_VERDICT_WIDTH}}  ", STYLE_OF_LEVEL[level])
        line.append(safe(path_words(entry.checkpoint.path, base_dir)), "default")
        line.append(safe("".join(f" | {part}" for part in parts)), "default")
        console.print(line, soft_wrap=True)


def _render_summary(entries: Sequence[ScanEntry], console: Console, *, verbose: bool) -> None:
    report = ScanReport(tuple(entries))
    noun = "checkpoint" if len(entries) == 1 else "checkpoints"
    depths = {entry.skipped.depth for entry in entries if entry.skipped}
    how = ", by headers alone" if "headers" in depths else ", quickly" if depths else ""
    line = Text(f"{len(entries)} {noun}{how}: ", "bold")
    counts = [
        Text(f"{count} {level}", STYLE_OF_LEVEL[level] if count else "dim")
        for level, count in report.summary.items()
    ]
    line.append_text(Text(", ").join(counts))
    if console.is_terminal and entries and not entries[-1].verdict.findings:
        console.print()
    console.print(line, soft_wrap=True)
    skipped = {missed.rule for entry in entries for missed in entry.verdict.not_evaluated}
    if skipped and not verbose:
        rules = "1 rule was" if len(skipped) == 1 else f"{len(skipped)} rules were"
        console.print(
            Text(f"{rules} not evaluated somewhere; --verbose tells where and why", "dim"),
            soft_wrap=True,
        )


def _path_width(paths: Iterable[str], origins: Iterable[str], width: int) -> int:
    """Return how wide the column of paths is: as wide as needed, at most what is left over."""
    longest = max(map(len, paths), default=0)
    left = width - _VERDICT_WIDTH - max(map(len, origins), default=0) - 2 * _GAP
    return max(min(longest, left), width // 3)


def _headline(entry: ScanEntry, path: str, origin: str, path_width: int) -> Table:
    from rich.table import Table  # noqa: PLC0415 - only for a terminal

    level = entry.verdict.level
    line = Table.grid(padding=(0, _GAP, 0, 0))
    line.add_column(width=_VERDICT_WIDTH, no_wrap=True)
    line.add_column(width=path_width, overflow="fold")
    line.add_column(overflow="fold")
    line.add_row(
        Text(level, STYLE_OF_LEVEL[level]),
        Text(path, "bold" if level != "healthy" else ""),
        Text(origin, "dim"),
    )
    return line
