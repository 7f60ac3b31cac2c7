"""How many tensors have which size: powers of two, against what fp16 can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinel.reports.charts.ranges import FORMATS
from sentinel.reports.charts.theme import Theme, chart


@dataclass(frozen=True, slots=True)
class ExponentBar:
    """``usual`` tensors have their root mean square in [2^exponent, 2^(exponent+1)).

    ``largest`` are those whose largest magnitude lies there.
    """

    exponent: int
    usual: int
    largest: int


def exponents_chart(bars: Sequence[ExponentBar], theme: Theme) -> dict[str, object]:
    """Return the picture: usual sizes upwards, largest magnitudes downwards, one axis of powers."""
    seen = [bar.exponent for bar in bars]
    ends = [min([-26, *seen]) - 1, max([17, *seen]) + 2]
    values = [
        {"low": bar.exponent, "high": bar.exponent + 1, "count": sign * count, "kind": kind,
         "says": f"{count} with {words} from 2^{bar.exponent} ({2.0**bar.exponent:.2g})"}
        for bar in bars
        for sign, count, kind, words in (
            (1, bar.usual, "usual", "root mean square"),
            (-1, bar.largest, "largest", "largest value"),
        )
        if count
    ]  # fmt: skip
    most = max([1, *(abs(int(str(value["count"]))) for value in values)])
    across = {
        "field": "low", "type": "quantitative", "scale": {"domain": ends, "nice": False},
        "axis": {"title": "power of two of the magnitude", "tickMinStep": 1,
                 "tickCount": 8 if theme.is_narrow else 16, "gridOpacity": 0.5},
    }  # fmt: skip
    down = {
        "field": "count", "type": "quantitative", "scale": {"domain": [-most * 1.15, most * 1.15]},
        "axis": {"title": "tensors", "labelExpr": "abs(datum.value)", "tickMinStep": 1,
                 "tickCount": 5, "format": ",d", "gridOpacity": 0.4},
    }  # fmt: skip
    return chart(
        theme,
        "How many tensors have which magnitude, usual above and largest below, against fp16",
        [
            _limits(ends, across, theme),
            _bars(values, across, down, theme),
            *_words(most, across, theme),
        ],
        {"width": theme.width, "height": 230, "encoding": {"y": down}},
    )


def _bars(
    values: Sequence[Mapping[str, object]], across: object, down: object, theme: Theme
) -> dict[str, object]:
    colours = [theme.colour("accent"), theme.colour("third")]
    return {
        "data": {"values": list(values)},
        "mark": {"type": "bar", "stroke": theme.colour("ground"), "strokeWidth": 1},
        "encoding": {
            "x": across,
            "x2": {"field": "high"},
            "y": down,
            "y2": {"datum": 0},
            "color": {
                "field": "kind",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": ["usual", "largest"], "range": colours},
            },
            "description": {"field": "says", "type": "nominal"},
        },
    }


def _limits(ends: Sequence[int], across: object, theme: Theme) -> dict[str, object]:
    # fp16: below 2^-24 nothing, below 2^-14 less and less precision, from 2^16 on infinity.
    values = [{"low": limit} for limit in (-24, -14, 16) if ends[0] < limit < ends[1]]
    return {
        "data": {"values": values},
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": theme.colour("faulty"),
                 "strokeWidth": 1, "aria": False},
        "encoding": {"x": across, "y": None},
    }  # fmt: skip


def _words(most: int, across: object, theme: Theme) -> list[dict[str, object]]:
    fp16 = FORMATS[0]
    limits = [
        {"low": 16, "count": most * 1.05, "text": f"{fp16.name} ends at {fp16.largest:.0f}"},
        {"low": -14, "count": most * 1.05, "text": "less precision" if theme.is_narrow else
         f"{fp16.name} loses precision below {fp16.normal:.2g}"},
    ]  # fmt: skip
    kinds = [
        {"low": -23.7, "count": most * 0.72, "text": "usual (RMS)"},
        {"low": -23.7, "count": -most * 0.72, "text": "largest"},
    ]
    y = {"field": "count", "type": "quantitative"}
    return [
        {
            "data": {"values": values},
            "mark": {"type": "text", "align": align, "dx": dx, "fontSize": 11, "aria": False,
                     "color": theme.colour(colour)},
            "encoding": {"x": across, "y": y, "text": {"field": "text"}},
        }
        for values, align, dx, colour in (
            (limits, "right", -4, "faulty"), (kinds, "left", 0, "soft")
        )
    ]  # fmt: skip
