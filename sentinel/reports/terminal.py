"""A scan as text: a line a checkpoint, below it what is wrong and what to do.

On a terminal it is laid out and coloured; in a pipe each checkpoint is one whole line, so that
`grep faulty` works. A verdict is always a word, never a colour alone. Our own text is ASCII.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.reports.words import (
    STYLE_OF_LEVEL,
    STYLE_OF_SEVERITY,
    TEXT_WIDTH,
    origin_words,
    path_words,
    remedy_words,
    shown,
)
from sentinel.verdict import Finding, NotEvaluated

if TYPE_CHECKING:
    from rich.console import Console

_VERDICT_WIDTH = len("unreadable")
_GAP = 2
_TODO = "; "


def render_scan(
    entries: Sequence[ScanEntry], console: Console, base_dir: Path, *, verbose: bool = False
) -> None:
    """Print what a scan found, paths relative to ``base_dir``, and a line that sums it up.

    ``verbose`` lists the rules that could not be asked and the tensors of each finding.
    """
    if console.is_terminal:
        _render_blocks(entries, console, base_dir, verbose=verbose)
    else:
        _render_lines(entries, console, base_dir, verbose=verbose)
    _render_summary(entries, console, verbose=verbose)


def _render_blocks(
    entries: Sequence[ScanEntry], console: Console, base_dir: Path, *, verbose: bool
) -> None:
    safe = _Safe(console)
    paths = [safe(path_words(entry.checkpoint.path, base_dir)) for entry in entries]
    origins = [safe(origin_words(entry.checkpoint)) for entry in entries]
    path_width = _path_width(paths, origins, console.width)
    for entry, path, origin in zip(entries, paths, origins, strict=True):
        console.print(_headline(entry, path, origin, path_width))
        for finding in entry.verdict.findings:
            console.print(_finding_block(finding, safe, verbose=verbose))
        if entry.verdict.usable and entry.verdict.level in {"faulty", "unreadable"}:
            console.print(_note(f"still usable: {', '.join(entry.verdict.usable)}"))
        if verbose:
            for reason, rules in _by_reason(entry.verdict.not_evaluated):
                console.print(_note(safe(f"not evaluated, {reason}: {', '.join(rules)}")))
        if entry.verdict.findings:
            console.print()


def _render_lines(
    entries: Sequence[ScanEntry], console: Console, base_dir: Path, *, verbose: bool
) -> None:
    safe = _Safe(console)
    for entry in entries:
        parts = [origin_words(entry.checkpoint)]
        for finding in entry.verdict.findings:
            remedy = _untold_remedy(finding)
            fix = f"; fix: {remedy}" if remedy else ""
            parts.append(f"{finding.rule}: {finding.message}{fix}")
        if verbose:
            parts += [
                f"not evaluated, {reason}: {', '.join(rules)}"
                for reason, rules in _by_reason(entry.verdict.not_evaluated)
            ]
        level = entry.verdict.level
        line = Text(f"{level:<{_VERDICT_WIDTH}}  ", STYLE_OF_LEVEL[level])
        line.append(safe(path_words(entry.checkpoint.path, base_dir)), "default")
        line.append(safe("".join(f" | {part}" for part in parts)), "default")
        console.print(line, soft_wrap=True)


def _render_summary(entries: Sequence[ScanEntry], console: Console, *, verbose: bool) -> None:
    report = ScanReport(tuple(entries))
    noun = "checkpoint" if len(entries) == 1 else "checkpoints"
    line = Text(f"{len(entries)} {noun}: ", "bold")
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


class _Safe:
    """Makes text safe for one console, in its encoding."""

    def __init__(self, console: Console) -> None:
        self._encoding = console.encoding

    def __call__(self, text: str) -> str:
        return shown(text, self._encoding)


def _path_width(paths: Iterable[str], origins: Iterable[str], width: int) -> int:
    """Return how wide the column of paths is: as wide as needed, at most what is left over."""
    longest = max(map(len, paths), default=0)
    left = width - _VERDICT_WIDTH - max(map(len, origins), default=0) - 2 * _GAP
    return max(min(longest, left), width // 3)


def _headline(entry: ScanEntry, path: str, origin: str, path_width: int) -> Table:
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


def _finding_block(finding: Finding, safe: _Safe, *, verbose: bool) -> Padding:
    block = Table.grid(padding=0)
    block.add_column(overflow="fold", max_width=TEXT_WIDTH)
    title = Text(safe(finding.rule), STYLE_OF_SEVERITY[finding.severity])
    block.add_row(title.append(f" ({finding.severity})", "not bold"))
    block.add_row(_indented(_sentence(finding, safe)))
    remedy = _untold_remedy(finding)
    if remedy:
        block.add_row(_indented(Text.assemble(("fix: ", "bold"), safe(remedy))))
    if verbose and finding.tensors:
        more = finding.tensor_count - len(finding.tensors)
        names = ", ".join(finding.tensors) + (f" and {more} more" if more > 0 else "")
        block.add_row(_indented(Text(safe(f"tensors: {names}"), "dim")))
    return Padding(block, (0, 0, 0, 2))


def _untold_remedy(finding: Finding) -> str:
    """Return the remedy in words, "" when the message tells it already.

    Messages end in ``; what to do``. That is said for this very case, the remedy in general.
    """
    return "" if _TODO in finding.message else remedy_words(finding.remedy)


def _sentence(finding: Finding, safe: _Safe) -> Text:
    """Return the message; what to do stands out where sentinel could do it itself."""
    fact, semicolon, todo = finding.message.rpartition(_TODO)
    if not semicolon or not finding.remedy:
        return Text(safe(finding.message))
    return Text(safe(fact + semicolon)).append(safe(todo), "bold")


def _indented(text: str | Text) -> Padding:
    return Padding(Text(text) if isinstance(text, str) else text, (0, 0, 0, 2))


def _note(text: str) -> Padding:
    return Padding(Text(text, "dim"), (0, 0, 0, 2))


def _by_reason(skipped: Iterable[NotEvaluated]) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason once, with the rules it kept from being asked."""
    ordered = sorted(skipped, key=lambda missed: missed.reason)
    for reason, group in groupby(ordered, key=lambda missed: missed.reason):
        yield reason, [missed.rule for missed in group]
