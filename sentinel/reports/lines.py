"""A scan as lines, each checkpoint a whole one: what goes into a pipe, so that `grep faulty` works.

Nothing here draws: without a terminal a scan needs no library for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from sentinel.reports.entries import ScanEntry, ScanReport
from sentinel.reports.words import (
    STYLE_OF_LEVEL,
    origin_words,
    path_words,
    shown,
    skipped_words,
    untold_remedy,
)
from sentinel.verdict import Finding, NotEvaluated

Line: TypeAlias = tuple[tuple[str, str], ...]
"""Texts with the style of each, where colours are wanted; the first one's is the whole line's."""

VERDICT_WIDTH = len("unreadable")


class Safe:
    """Makes text safe for a terminal or a pipe of one encoding."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def __call__(self, text: str) -> str:
        """Return text as it can be printed."""
        return shown(text, self._encoding)


def scan_text(
    entries: Sequence[ScanEntry],
    encoding: str,
    base_dir: Path,
    *,
    verbose: bool = False,
    brief: bool = False,
) -> str:
    """Return what a scan found as lines without colours; the options are `render_scan`'s."""
    lines = list(checkpoint_lines(entries, Safe(encoding), base_dir, verbose=verbose))
    if not brief:
        lines += summary_lines(entries, verbose=verbose)
    return "".join("".join(text for text, _style in line) + "\n" for line in lines)


def checkpoint_lines(
    entries: Iterable[ScanEntry], safe: Safe, base_dir: Path, *, verbose: bool
) -> Iterator[Line]:
    """Yield a line a checkpoint: its verdict, its path, what it is and what is wrong with it."""
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
        yield (
            (f"{level:<{VERDICT_WIDTH}}  ", STYLE_OF_LEVEL[level]),
            (safe(path_words(entry.checkpoint.path, base_dir)), "default"),
            (safe("".join(f" | {part}" for part in parts)), "default"),
        )


def summary_lines(entries: Sequence[ScanEntry], *, verbose: bool) -> Iterator[Line]:
    """Yield how many checkpoints have which verdict, and that rules were not asked."""
    report = ScanReport(tuple(entries))
    noun = "checkpoint" if len(entries) == 1 else "checkpoints"
    depths = {entry.skipped.depth for entry in entries if entry.skipped}
    how = ", by headers alone" if "headers" in depths else ", quickly" if depths else ""
    line = [(f"{len(entries)} {noun}{how}: ", "bold")]
    for place, (level, count) in enumerate(report.summary.items()):
        line += [(", ", "")] if place else []
        line.append((f"{count} {level}", STYLE_OF_LEVEL[level] if count else "dim"))
    yield tuple(line)
    skipped = {missed.rule for entry in entries for missed in entry.verdict.not_evaluated}
    if skipped and not verbose:
        rules = "1 rule was" if len(skipped) == 1 else f"{len(skipped)} rules were"
        yield ((f"{rules} not evaluated somewhere; --verbose tells where and why", "dim"),)


def finding_line(finding: Finding) -> str:
    """Return a finding in one sentence: its rule, what it says, and what to do."""
    remedy = untold_remedy(finding)
    return f"{finding.rule}: {finding.message}" + (f"; fix: {remedy}" if remedy else "")


def by_reason(skipped: Iterable[NotEvaluated]) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason once, with the rules it kept from being asked."""
    ordered = sorted(skipped, key=lambda missed: missed.reason)
    for reason, group in groupby(ordered, key=lambda missed: missed.reason):
        yield reason, [missed.rule for missed in group]
