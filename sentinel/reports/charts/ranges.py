"""How large the values are, against what fp16 and bf16 can hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.reports.charts.theme import Theme, chart

ROW = 30
"""Height of a row in CSS pixels."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a floating-point format can hold: magnitudes from ``smallest`` to ``largest``.

    Below ``normal`` precision is lost bit by bit, below half of ``smallest`` all of it.
    """

    name: str
    smallest: float
    normal: float
    largest: float


FORMATS = (
    Format("fp16", 2.0**-24, 2.0**-14, 65504.0),
    Format("bf16", 2.0**-133, 2.0**-126, float.fromhex("0x1.fep127")),
)
"""IEEE 754 binary16, and bfloat16: the upper half of binary32."""


@dataclass(frozen=True, slots=True)
class RangeRow:
    """The magnitudes of one kind of tensor: the usual ones of its tensors, and the largest of all.

    ``low`` and ``high`` are the smallest and largest root mean square of a tensor (zeros and
    values that are not finite left out), None where all is zero; ``says`` is read out; ``note``
    stands beside the row.
    """

    label: str
    low: float | None
    high: float | None
    largest: float | None
    says: str
    note: str = ""


def ranges_chart(rows: Sequence[RangeRow], theme: Theme) -> dict[str, object]:
    """Return the picture: formats as bands above, tensors as bars below, one logarithmic axis."""
    seen = [value for row in rows for value in (row.low, row.high, row.largest) if value]
    low = min([1e-9, *seen])
    high = max([1e7, *seen])
    order = [*(one.name for one in FORMATS), *(row.label for row in rows)]
    ends = [10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))]
    scale = {
        "type": "log",
        "domain": ends,
        "clamp": True,
    }
    across = {
        "field": "low", "type": "quantitative", "scale": scale,
        "axis": {"title": "magnitude", "format": ".0e", "gridOpacity": 0.5,
                 "tickCount": 4 if theme.is_narrow else 9, "orient": "bottom"},
    }  # fmt: skip
    down = {
        "field": "row", "type": "nominal", "sort": order, "scale": {"domain": order},
        "axis": {"title": None, "domain": False, "ticks": False, "labelPadding": 8,
                 "labelLimit": 120 if theme.is_narrow else 240},
    }  # fmt: skip
    return chart(
        theme,
        "Magnitudes of the weights by role and dtype, against the limits of fp16 and bf16",
        [
            *_bands(ends, across, theme),
            _limits(across, theme),
            *_bars(rows, across, theme),
        ],
        {
            "width": theme.width,
            "height": ROW * len(order) + 44,
            "encoding": {"y": down},
        },
    )


def _bands(ends: list[float], across: object, theme: Theme) -> list[dict[str, object]]:
    values = []
    for one in FORMATS:
        normal, largest = max(one.normal, ends[0]), min(one.largest, ends[1])
        values.append(
            {"row": one.name, "low": normal, "high": largest, "kind": "normal",
             "says": f"{one.name} holds {one.normal:.2g} to {one.largest:.5g} in full precision"}
        )  # fmt: skip
        if one.smallest > ends[0]:
            values.append(
                {"row": one.name, "low": one.smallest, "high": normal, "kind": "subnormal",
                 "says": f"{one.name} loses precision below {one.normal:.2g},"
                         f" and all of it below {one.smallest / 2:.1g}"}
            )  # fmt: skip
    told = [
        {"row": one.name, "low": math.sqrt(ends[0] * ends[1]) if one.smallest < ends[0] else 1.0,
         "text": f"{one.normal:.2g} to {one.largest:.5g}"}
        for one in FORMATS
    ]  # fmt: skip
    return [
        {
            "data": {"values": values},
            "mark": {"type": "bar", "height": 18, "stroke": theme.colour("soft"),
                     "strokeWidth": 0.5},
            "encoding": {
                "x": across, "x2": {"field": "high"},
                "color": {
                    "field": "kind", "type": "nominal", "legend": None,
                    "scale": {"domain": ["normal", "subnormal"],
                              "range": [theme.colour("ramp-2"), theme.colour("ramp-0")]},
                },
                "description": {"field": "says", "type": "nominal"},
            },
        },
        {
            "data": {"values": told},
            "mark": {"type": "text", "fontSize": 11, "aria": False},
            "encoding": {"x": across, "text": {"field": "text"}},
        },
    ]  # fmt: skip


def _limits(across: object, theme: Theme) -> dict[str, object]:
    fp16 = FORMATS[0]
    values = [{"low": limit} for limit in (fp16.smallest, fp16.normal, fp16.largest)]
    return {
        "data": {"values": values},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": theme.colour("faulty"),
                 "strokeWidth": 1, "aria": False},
        "encoding": {"x": across, "y": None},
    }  # fmt: skip


def _bars(rows: Sequence[RangeRow], across: object, theme: Theme) -> list[dict[str, object]]:
    bars = [
        {"row": row.label, "low": row.low, "high": max(row.high, row.low * 1.05), "says": row.says}
        for row in rows
        if row.low and row.high
    ]
    largest = [
        {"row": row.label, "low": row.largest, "says": f"{row.label}: largest {row.largest:.3g}"}
        for row in rows
        if row.largest
    ]
    whiskers = [
        {"row": row.label, "low": row.low, "high": row.largest}
        for row in rows
        if row.low and row.largest
    ]
    # On a telephone a note beside a bar would lie upon it; the table has it there.
    roomy = [row for row in rows if row.note and not (theme.is_narrow and row.high)]
    notes = [{"row": row.label, "text": row.note, "says": row.says} for row in roomy]
    said = {"field": "says", "type": "nominal"}
    accent = theme.colour("accent")
    return [
        {
            "data": {"values": whiskers},
            "mark": {"type": "rule", "color": accent, "strokeWidth": 1.5, "aria": False},
            "encoding": {"x": across, "x2": {"field": "high"}},
        },
        {
            "data": {"values": bars},
            "mark": {"type": "bar", "height": 12, "color": accent},
            "encoding": {"x": across, "x2": {"field": "high"}, "description": said},
        },
        {
            "data": {"values": largest},
            "mark": {"type": "tick", "color": accent, "thickness": 3, "size": 18},
            "encoding": {"x": across, "description": said},
        },
        {
            "data": {"values": notes},
            "mark": {"type": "text", "align": "right", "x": "width", "dx": -4, "fontSize": 11,
                     "color": theme.colour("faulty")},
            "encoding": {"text": {"field": "text"}, "description": said},
        },
    ]  # fmt: skip
