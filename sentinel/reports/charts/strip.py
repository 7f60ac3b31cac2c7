"""The verdicts over the steps, a row an attempt, with the way back from a fault drawn in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.reports.charts.theme import BESIDE, SHAPES, Theme, chart, step_axis
from sentinel.verdict import LEVELS, Level

ROW = 62
"""Height of an attempt in CSS pixels."""

_TURN = 0.42
"""Where between two rows a way back runs, as a share of a row."""

_Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class StripMark:
    """One checkpoint, or the gravest of several that lie too close to be drawn apart.

    ``says`` is read out and shown by a pointer; an arrow below the mark says that it was moved
    to quarantine, a line that it is pinned.
    """

    attempt: int
    step: int
    level: Level
    says: str
    is_moved: bool = False
    is_pinned: bool = False


@dataclass(frozen=True, slots=True)
class Rollback:
    """A way back: an attempt began again at ``to_step`` after one that went bad.

    ``how`` is written where it begins, ``says`` is read out.
    """

    from_attempt: int
    from_step: int
    to_attempt: int
    to_step: int
    how: str
    says: str


def strip_chart(
    marks: Sequence[StripMark],
    ways: Sequence[Rollback],
    theme: Theme,
    *,
    last_step: int,
) -> dict[str, object]:
    """Return the strip. ``last_step`` ends the axis, so that it lines up with other charts."""
    attempts = sorted({mark.attempt for mark in marks} | {way.to_attempt for way in ways})
    rows = {attempt: number for number, attempt in enumerate(attempts)}
    # Attempt 0 is what lay there before the first start.
    names = [f"attempt {attempt}" if attempt else "before" for attempt in attempts]
    down = {
        "field": "row", "type": "quantitative",
        "scale": {"domain": [-0.4, len(rows) - 0.4], "reverse": True, "nice": False},
        "axis": {"title": None, "domain": False, "ticks": False, "grid": False,
                 "labelPadding": 8, "values": list(rows.values()),
                 "minExtent": BESIDE, "maxExtent": BESIDE,
                 "labelExpr": f"{json.dumps(names)}[datum.value]"},
    }  # fmt: skip
    step = step_axis(last_step)
    points: list[_Row] = [
        {"row": rows[m.attempt], "step": m.step, "level": m.level, "says": m.says,
         "moved": m.is_moved, "pinned": m.is_pinned}
        for m in marks
    ]  # fmt: skip
    begun: list[_Row] = [
        {"row": rows[way.to_attempt], "from": rows.get(way.from_attempt, 0), "step": way.to_step,
         "end": way.from_step, "how": way.how, "says": way.says}
        for way in ways
    ]  # fmt: skip
    return chart(
        theme,
        "Verdict of each checkpoint over the steps, one row an attempt",
        [
            _tracks([*points, *begun], theme),
            *(_way_back(one, theme) for one in begun),
            *_hows(begun, theme, last_step),
            _beginnings(begun, theme),
            _points(points, theme),
            _below([one for one in points if one["moved"]], "triangle-down", "faulty", theme),
            _below([one for one in points if one["pinned"]], "stroke", "accent", theme),
        ],
        {
            "width": theme.width,
            "height": ROW * max(1, len(rows)) + 44,
            "encoding": {"x": step, "y": down},
        },
    )


def _tracks(places: Sequence[_Row], theme: Theme) -> dict[str, object]:
    steps: dict[object, list[int]] = {}
    for place in places:
        steps.setdefault(place["row"], []).append(int(str(place["step"])))
    values = [{"row": row, "step": min(at), "end": max(at)} for row, at in steps.items()]
    return {
        "data": {"values": values},
        "mark": {"type": "rule", "strokeWidth": 2, "color": theme.colour("line"), "aria": False},
        "encoding": {"x2": {"field": "end"}},
    }


def _way_back(way: _Row, theme: Theme) -> dict[str, object]:
    """Return a line down, back and down again, which crosses no mark."""
    above, below = float(str(way["from"])), float(str(way["row"]))
    turn = below - 1 + _TURN if below > above else above
    corners = (("end", above), ("end", turn), ("step", turn), ("step", below))
    values = [{"step": way[at], "row": row, "n": n} for n, (at, row) in enumerate(corners)]
    return {
        "data": {"values": values},
        "mark": {
            "type": "line", "strokeDash": [4, 3], "strokeWidth": 1.5, "strokeJoin": "round",
            "color": theme.colour("soft"), "description": str(way["says"]),
        },
        "encoding": {"order": {"field": "n"}},
    }  # fmt: skip


def _hows(ways: Sequence[_Row], theme: Theme, last_step: int) -> list[dict[str, object]]:
    """Return the words below the ways back, to the side on which there is room."""
    sides: dict[str, list[_Row]] = {"left": [], "right": []}
    for way in ways:
        side = "left" if int(str(way["step"])) < last_step * 0.6 else "right"
        sides[side].append({**way, "row": float(str(way["row"])) - 1 + _TURN})
    return [
        {
            "data": {"values": values},
            "mark": {"type": "text", "align": side, "dy": 10, "fontSize": 11.5, "aria": False,
                     "dx": 6 if side == "left" else -6, "color": theme.colour("soft")},
            "encoding": {"text": {"field": "how"}},
        }
        for side, values in sides.items()
    ]  # fmt: skip


def _beginnings(ways: Sequence[_Row], theme: Theme) -> dict[str, object]:
    return {
        "data": {"values": list(ways)},
        "mark": {"type": "point", "size": 70, "strokeWidth": 2, "opacity": 1, "aria": False,
                 "fill": theme.colour("ground"), "stroke": theme.colour("soft")},
    }  # fmt: skip


def _points(points: Sequence[_Row], theme: Theme) -> dict[str, object]:
    levels = list(LEVELS)
    colours = [theme.colour(one) for one in levels]
    shapes = [SHAPES[one] for one in levels]
    level = {"field": "level", "type": "nominal", "legend": None}
    return {
        "data": {"values": list(points)},
        "mark": {"type": "point", "filled": True, "size": 120, "opacity": 1, "strokeWidth": 0.5},
        "encoding": {
            "color": {**level, "scale": {"domain": levels, "range": colours}},
            "shape": {**level, "scale": {"domain": levels, "range": shapes}},
            "description": {"field": "says", "type": "nominal"},
        },
    }


def _below(points: Sequence[_Row], shape: str, colour: str, theme: Theme) -> dict[str, object]:
    return {
        "data": {"values": list(points)},
        "mark": {"type": "point", "shape": shape, "size": 50, "yOffset": 13, "aria": False,
                 "filled": shape != "stroke", "strokeWidth": 2, "opacity": 1,
                 "color": theme.colour(colour)},
    }  # fmt: skip
