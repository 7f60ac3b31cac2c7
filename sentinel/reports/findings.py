"""A finding laid out for a terminal."""

from __future__ import annotations

from rich.padding import Padding
from rich.text import Text

from sentinel.reports.lines import Safe
from sentinel.reports.words import STYLE_OF_SEVERITY, TEXT_WIDTH, TODO, untold_remedy
from sentinel.verdict import Finding


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
