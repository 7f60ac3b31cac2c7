"""Rows as text: laid out for a terminal, a line each for a pipe, JSON lines, CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sentinel.health.plain import plain
from sentinel.reports.words import shown

if TYPE_CHECKING:
    import pyarrow as pa

SHORT = 19
"""Columns no wider than this (a time) stay whole on a narrow terminal; wider ones are folded."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Named columns and their rows; a cell is a time or something JSON can say."""

    names: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def rows_of(table: pa.Table) -> Rows:
    """Return an Arrow table's rows; names may repeat, as those of a query's answer may."""
    columns = [map(_plain, column.to_pylist()) for column in table.columns]
    return Rows(tuple(table.column_names), tuple(zip(*columns, strict=True)))


def to_json_lines(rows: Rows) -> str:
    """Return one JSON object a row, ASCII only, each on its line."""
    objects = (dict(zip(rows.names, row, strict=True)) for row in rows.rows)
    return "".join(f"{json.dumps(plain(one), allow_nan=False)}\n" for one in objects)


def to_csv(rows: Rows, encoding: str) -> str:
    """Return the rows as CSV under a line of names; NULL is empty, lists are JSON.

    Control characters are shown escaped, since the text may end up on a terminal; JSON lines
    hold every cell as it is.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(shown(name, encoding) for name in rows.names)
    writer.writerows([_exact(cell, encoding) for cell in row] for row in rows.rows)
    return text.getvalue()


def to_grid(rows: Rows, encoding: str) -> Table:
    """Return the rows as a table for a terminal, long cells folded."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    cells = [[_short(cell, encoding) for cell in row] for row in rows.rows]
    for name, width in zip(rows.names, _widths(rows.names, cells), strict=True):
        grid.add_column(Text(shown(name, encoding)), overflow="fold", no_wrap=width <= SHORT)
    for row in cells:
        grid.add_row(*map(Text, row))
    return grid


def to_lines(rows: Rows, encoding: str) -> str:
    """Return the rows for a pipe: aligned under their names, each one whole line."""
    cells = [[_short(cell, encoding) for cell in row] for row in rows.rows]
    names = [shown(name, encoding) for name in rows.names]
    widths = _widths(names, cells)
    return "".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in [names, *cells]
    )


def _widths(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(names, *cells, strict=True)]


def _plain(cell: object) -> object:
    if isinstance(cell, datetime):
        return cell
    if isinstance(cell, Decimal):
        # DuckDB's sums of whole numbers come as decimals, which are no text.
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    return plain(cell)


def _short(cell: object, encoding: str) -> str:
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    return f"{cell:.6g}" if isinstance(cell, float) else _exact(cell, encoding)


def _exact(cell: object, encoding: str) -> str:
    if cell is None:
        return ""
    value = plain(cell)
    return shown(value if isinstance(value, str) else json.dumps(value), encoding)
