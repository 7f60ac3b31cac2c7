"""An Arrow table as text: for people, as JSON lines, or as CSV."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sentinel.health.plain import plain
from sentinel.reports.words import shown

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console


def print_table(table: pa.Table, console: Console, form: str) -> None:
    """Print every row; ``form`` is text, json (one object a line) or csv."""
    rows = [plain(row) for row in table.to_pylist()]
    if form == "json":
        for row in rows:
            sys.stdout.write(json.dumps(row) + "\n")
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, fieldnames=table.column_names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if isinstance(row, dict))
    else:
        console.print(_grid(table.column_names, rows, console.encoding))


def _grid(names: list[str], rows: list[object], encoding: str) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        grid.add_column(Text(shown(name, encoding)), overflow="fold")
    for row in rows:
        if isinstance(row, dict):
            grid.add_row(*(Text(_cell(row[name], encoding)) for name in names))
    return grid


def _cell(value: object, encoding: str) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return shown(value if isinstance(value, str) else json.dumps(value), encoding)
