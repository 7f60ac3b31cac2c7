"""What is told of a checkpoint in several parts: facts by name, and tables under a title."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinel.reports.table import Rows, to_grid, to_lines
from sentinel.reports.words import shown

if TYPE_CHECKING:
    from rich.console import Console

_GAP = 2
_READABLE = 40
"""Characters that names want beside their numbers; with less they are folded beyond reading."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one below the other."""

    facts: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A table under a title."""

    title: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line that stands out."""

    text: str
    style: str = "bold"


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A line under a title that is to be copied, and so never broken."""

    title: str
    text: str


Section = Facts | Listing | Sentence | Verbatim


def render_sections(sections: Sequence[Section], console: Console) -> None:
    """Print sections with an empty line between; in a pipe no line is ever broken."""
    for number, section in enumerate(sections):
        if number:
            console.print()
        _render(section, console)


def _render(section: Section, console: Console) -> None:
    encoding = console.encoding
    if isinstance(section, Sentence):
        line = Text(shown(section.text, encoding), section.style)
        console.print(line, soft_wrap=not console.is_terminal)
        return
    if section.title:
        console.print(Text(shown(section.title, encoding), "bold"), soft_wrap=True)
    if isinstance(section, Verbatim):
        console.print(Text(f"  {shown(section.text, encoding)}"), soft_wrap=True)
    elif isinstance(section, Facts):
        _render_facts(section.facts, console)
    elif console.is_terminal:
        rows = section.rows
        console.print(
            _stacked(rows, encoding) if _is_cramped(rows, console) else to_grid(rows, encoding)
        )
    else:
        console.print(Text(to_lines(section.rows, encoding)), soft_wrap=True, end="")


def _render_facts(facts: Iterable[tuple[str, str]], console: Console) -> None:
    safe = [(shown(name, console.encoding), shown(said, console.encoding)) for name, said in facts]
    width = max((len(name) for name, _said in safe), default=0)
    if not console.is_terminal:
        for name, said in safe:
            console.print(Text(f"{name:<{width}}  {said}".rstrip()), soft_wrap=True)
        return
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(style="dim", overflow="fold", max_width=max(console.width // 2, 1))
    grid.add_column(overflow="fold")
    for name, said in safe:
        grid.add_row(Text(name), Text(said))
    console.print(grid)


def _is_cramped(rows: Rows, console: Console) -> bool:
    """Tell whether the first column, that of names, is long and left with little room."""
    lines = to_lines(rows, console.encoding).splitlines()
    excess = max(map(len, lines), default=0) - console.width
    longest = max((len(str(row[0])) for row in rows.rows), default=0)
    return excess > 0 and longest - excess < min(longest, _READABLE)


def _stacked(rows: Rows, encoding: str) -> Table:
    """Return a table whose names stand above their numbers."""
    numbers = Rows(rows.names[1:], tuple(row[1:] for row in rows.rows))
    head, *lines = to_lines(numbers, encoding).splitlines()
    table = Table.grid()
    table.add_column(overflow="fold")
    table.add_row(Text(shown(rows.names[0], encoding), "bold"))
    table.add_row(Padding(Text(head, "bold"), (0, 0, 0, _GAP)))
    for row, line in zip(rows.rows, lines, strict=True):
        table.add_row(Text(shown(str(row[0]), encoding)))
        table.add_row(Padding(Text(line), (0, 0, 0, _GAP)))
    return table
