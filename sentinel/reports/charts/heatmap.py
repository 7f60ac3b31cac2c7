"""One number of every module at every checkpoint: darker is more, a cross is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.reports.charts.theme import RAMP, Theme, chart

CELL = 13
"""Height of a module's row in CSS pixels."""

_LONGEST = 34
_LONGEST_NARROW = 20
_TICK_PX = 44

_ALIKE, _MUCH = 1e-9, math.log(20)
"""Spans of a logarithm: below, numbers are the same; above, an even ramp would hide small ones."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A module's number at one column; None where it is unknown, ``is_broken`` where not finite.

    ``says`` is shown by a pointer.
    """

    row: str
    column: int
    value: float | None
    says: str
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class HeatColumn:
    """One checkpoint of the picture; a new ``attempt`` begins after a gap."""

    attempt: int
    label: str


def thresholds(values: Sequence[float]) -> list[float]:
    """Return the borders of the ramp's steps: even in value, or in logarithm where it spans much.

    Exactly zero stays below the first border.
    """
    positive = sorted(value for value in values if value > 0)
    if not positive:
        return [float(number) for number in range(1, RAMP)]
    low, high = positive[0], positive[-1]
    # By logarithms: the ratio of two numbers may be more than a number can be.
    span = math.log(high) - math.log(low)
    if span < _ALIKE:
        return [low * (0.5 + number / RAMP / 2) for number in range(1, RAMP)]
    if span > _MUCH:
        each = span / (RAMP - 1)
        return [math.exp(math.log(low) + each * number) for number in range(RAMP - 1)]
    return [high * number / RAMP for number in range(1, RAMP)]


SHARE_BORDERS = (1e-9, 1.0, 10.0, 30.0, 60.0, 99.999)
"""Borders for shares in per cent: nothing at all and everything have colours of their own."""


def heatmap_chart(
    cells: Sequence[HeatCell],
    rows: Sequence[str],
    columns: Sequence[HeatColumn],
    theme: Theme,
    *,
    title: str,
    borders: Sequence[float],
) -> dict[str, object]:
    """Return the map. ``rows`` are drawn in their order, ``borders`` part the ramp's colours."""
    label = _LONGEST_NARROW if theme.is_narrow else _LONGEST
    places = _places(columns)
    # Rows are placed by number: two long names may be the same once they are shortened.
    numbers = {row: number for number, row in enumerate(rows)}
    values = [
        {"c": places[cell.column], "e": places[cell.column] + 1, "r": numbers[cell.row],
         "f": numbers[cell.row] + 1, "v": cell.value, "s": cell.says, "b": cell.is_broken}
        for cell in cells
    ]  # fmt: skip
    across = {
        "field": "c", "type": "quantitative", "axis": None,
        "scale": {"domain": [0, places[-1] + 1 if places else 1], "nice": False},
    }  # fmt: skip
    down = {
        "field": "r",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, max(1, len(rows))], "reverse": True, "nice": False},
    }
    fill = {
        "condition": [
            {"test": "datum.b", "value": theme.colour("faulty")},
            {"test": "datum.v === null", "value": theme.colour("unknown")},
        ],
        "field": "v", "type": "quantitative", "legend": None,
        "scale": {"type": "threshold", "domain": list(borders), "range": theme.ramp()},
    }  # fmt: skip
    names = [{"r": n + 0.5, "name": _short(row, label)} for n, row in enumerate(rows)]
    layers: list[dict[str, object]] = [
        {
            "data": {"values": values},
            "mark": {"type": "rect", "stroke": theme.colour("ground"), "strokeWidth": 0.5,
                     "invalid": "show"},
            "encoding": {
                "x": across, "x2": {"field": "e"}, "y": down, "y2": {"field": "f"},
                "fill": fill, "description": {"field": "s", "type": "nominal"},
            },
        },
        {
            "data": {"values": names},
            "mark": {"type": "text", "align": "right", "x": -6, "fontSize": 10.5, "aria": False,
                     "color": theme.colour("soft")},
            "encoding": {"y": down, "text": {"field": "name"}},
        },
        _axis(columns, places, across, theme, below=max(1, len(rows)) * CELL),
        _crosses(cells, places, numbers, {"x": across, "y": down}, theme),
    ]  # fmt: skip
    margin = 7 * max((len(str(one["name"])) for one in names), default=0) * 0.78 + 10
    return chart(
        theme,
        title,
        layers,
        {
            "width": max(80, theme.width - margin - 12),
            "height": max(1, len(rows)) * CELL,
            "autosize": {"type": "pad"},
        },
    )


def _places(columns: Sequence[HeatColumn]) -> list[float]:
    """Return where each column begins, in columns: half a one is left free between attempts."""
    places: list[float] = []
    for number, column in enumerate(columns):
        gap = 0.6 if number and column.attempt != columns[number - 1].attempt else 0.0
        places.append(places[-1] + 1 + gap if places else 0.0)
    return places


def _axis(
    columns: Sequence[HeatColumn],
    places: Sequence[float],
    across: object,
    theme: Theme,
    *,
    below: int,
) -> dict[str, object]:
    """Return the steps below the map, as many as have room, the first of each attempt for sure."""
    room = (theme.width * (0.6 if theme.is_narrow else 0.72)) / max(1, len(columns))
    every = max(1, round(_TICK_PX / room))
    values: list[dict[str, object]] = []
    last = -every
    for number, column in enumerate(columns):
        begins = number == 0 or column.attempt != columns[number - 1].attempt
        if begins or number - last >= every:
            if begins and values and number - last < every:
                values.pop()
            values.append({"c": places[number] + 0.5, "name": column.label})
            last = number
    return {
        "data": {"values": values},
        "mark": {"type": "text", "baseline": "top", "y": below + 5, "fontSize": 10.5,
                 "aria": False, "color": theme.colour("soft")},
        "encoding": {"x": across, "text": {"field": "name"}},
    }  # fmt: skip


def _crosses(
    cells: Sequence[HeatCell],
    places: Sequence[float],
    numbers: dict[str, int],
    encoding: dict[str, object],
    theme: Theme,
) -> dict[str, object]:
    values = [
        {"c": places[cell.column] + 0.5, "r": numbers[cell.row] + 0.5}
        for cell in cells
        if cell.is_broken
    ]
    return {
        "data": {"values": values},
        "mark": {"type": "text", "text": "\N{MULTIPLICATION SIGN}", "fontSize": 10,
                 "fontWeight": "bold", "aria": False,
                 "color": theme.colour("ground"), "baseline": "middle"},
        "encoding": encoding,
    }  # fmt: skip


def _short(name: str, longest: int) -> str:
    """Return a name with its middle left out: number in front, matrix behind tell modules apart."""
    head = longest // 3
    return name if len(name) <= longest else f"{name[:head]}…{name[head + 1 - longest :]}"
