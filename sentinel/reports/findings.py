"""A finding as text: laid out for a terminal, or as a part of a line in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from sentinel.reports.words import STYLE_OF_SEVERITY, TEXT_WIDTH, TODO, shown, untold_remedy
from sentinel.verdict import Finding, NotEvaluated

if TYPE_CHECKING:
    from rich.console import Console


class Safe:
    """Makes text safe for one console, in its encoding."""

    def __init__(self, console: Console) -> None:
        self._encoding = console.encoding

    def __call__(self, text: str) -> str:
        """Return text as the console can print it."""
        return shown(text, self._encoding)


def finding_line(finding: Finding) -> str:
    """Return a finding in one sentence: its rule, what it says, and what to do."""
    remedy = untold_remedy(finding)
    return f"{finding.rule}: {finding.message}" + (f"; fix: {remedy}" if remedy else "")


def finding_block(finding: Finding, safe: Safe, *, verbose: bool) -> Padding:
    """Return a finding laid out for a terminal; ``verbose`` adds its tensors."""
    from rich.table import Table  # noqa: PLC0415 - only for a terminal

    block = Table.grid(padding=0)
    block.add_column(overflow="fold", max_width=TEXT_WIDTH)
    title = Text(safe(finding.rule), STYLE_OF_SEVERITY[finding.severity])
    block.add_row(title.append(f" ({finding.severity})", "not bold"))
    block.add_row(_indented(_sentence(finding, safe)))
    remedy = untold_remedy(finding)
    if remedy:
        block.add_row(_indented(Text.assemble(("fix: ", "bold"), safe(remedy))))
    if verbose and finding.tensors:
        more = finding.tensor_count - len(finding.tensors)
        names = ", ".join(finding.tensors) + (f" and {more} more" if more > 0 else "")
        block.add_row(_indented(Text(safe(f"tensors: {names}"), "dim")))
    return Padding(block, (0, 0, 0, 2))


def _sentence(finding: Finding, safe: Safe) -> Text:
    """Return the message; what to do stands out where sentinel could do it itself."""
    fact, semicolon, todo = finding.message.rpartition(TODO)
    if not semicolon or not finding.remedy:
        return Text(safe(finding.message))
    return Text(safe(fact + semicolon)).append(safe(todo), "bold")


def _indented(text: str | Text) -> Padding:
    return Padding(Text(text) if isinstance(text, str) else text, (0, 0, 0, 2))


def note(text: str) -> Padding:
    """Return a line beside findings, indented and dim."""
    return Padding(Text(text, "dim"), (0, 0, 0, 2))


def by_reason(skipped: Iterable[NotEvaluated]) -> Iterator[tuple[str, list[str]]]:
    """Yield each reason once, with the rules it kept from being asked."""
    ordered = sorted(skipped, key=lambda missed: missed.reason)
    for reason, group in groupby(ordered, key=lambda missed: missed.reason):
        yield reason, [missed.rule for missed in group]
