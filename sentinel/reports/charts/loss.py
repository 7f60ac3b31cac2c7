"""The loss over the steps, a line an attempt, with faults and repairs where they happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.reports.charts.theme import BESIDE, SHAPES, Theme, chart, step_axis

HEIGHT = 230
"""Height of the curve in CSS pixels; the words above it come in addition."""

_BAND, _LINE = 8, 15
_LOG_FROM = 100
"""A loss that spans this ratio is drawn on a logarithmic axis."""

_DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
_COLOURS = ("second", "accent", "third", "soft")


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The loss at a step of an attempt; None where it was no finite number."""

    attempt: int
    step: int
    loss: float | None


@dataclass(frozen=True, slots=True)
class LossMark:
    """Something that happened at a step: a fault found, or a repair that began there."""

    step: int
    kind: str
    label: str
    says: str


def loss_chart(
    points: Sequence[LossPoint], marks: Sequence[LossMark], theme: Theme, *, last_step: int
) -> dict[str, object]:
    """Return the curve. A loss that is no finite number is a cross at the upper edge."""
    known = [point.loss for point in points if point.loss is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    is_log = low > 0 and high / low > _LOG_FROM
    band = _BAND + _LINE * (len(marks) + 1)
    step = step_axis(last_step)
    loss = {
        "field": "loss", "type": "quantitative",
        "scale": {"type": "log" if is_log else "linear", "zero": False, "nice": True,
                  "range": [{"expr": "height"}, band]},
        "axis": {"title": "loss (log)" if is_log else "loss", "tickCount": 5, "gridOpacity": 0.6,
                 "format": ".3~g", "titleAngle": 0, "titleAlign": "left", "titleX": 4 - BESIDE,
                 "titleY": band - 10, "minExtent": BESIDE, "maxExtent": BESIDE},
    }  # fmt: skip
    return chart(
        theme,
        "Loss over the steps, one line an attempt, with faults and repairs",
        [
            *_events(marks, step, theme, last_step),
            _lines(points, step, loss, theme),
            _not_finite(points, step, theme, y=band - 8),
        ],
        {
            "width": theme.width,
            "height": HEIGHT + band,
            "resolve": {"scale": {"color": "independent", "strokeDash": "independent"}},
        },
    )


def _lines(
    points: Sequence[LossPoint], step: object, loss: object, theme: Theme
) -> dict[str, object]:
    attempts = sorted({point.attempt for point in points})
    names = [f"attempt {attempt}" for attempt in attempts]
    colours = [theme.colour(_COLOURS[number % len(_COLOURS)]) for number in range(len(names))]
    dashes = [_DASHES[number % len(_DASHES)] for number in range(len(names))]
    values = [
        {"step": p.step, "loss": p.loss, "name": f"attempt {p.attempt}"}
        for p in points
        if p.loss is not None
    ]
    legend = {
        "title": None, "orient": "top", "symbolType": "stroke", "symbolSize": 900,
        "symbolStrokeWidth": 2, "columns": 3 if theme.is_narrow else 8, "symbolLimit": 12,
        "labelColor": theme.colour("ink"), "labelFontSize": 12, "offset": 6, "columnPadding": 22,
    }  # fmt: skip
    name = {"field": "name", "type": "nominal", "legend": legend}
    return {
        "data": {"values": values},
        "mark": {"type": "line", "strokeWidth": 2, "aria": False},
        "encoding": {
            "x": step,
            "y": loss,
            "color": {**name, "scale": {"domain": names, "range": colours}},
            "strokeDash": {**name, "scale": {"domain": names, "range": dashes}},
        },
    }


def _events(
    marks: Sequence[LossMark], step: object, theme: Theme, last_step: int
) -> list[dict[str, object]]:
    values = [
        {"step": m.step, "kind": m.kind, "label": m.label, "says": m.says, "row": _BAND + _LINE * n}
        for n, m in enumerate(marks)
    ]
    colour = {
        "field": "kind", "type": "nominal", "legend": None,
        "scale": {"domain": ["fault", "repair"],
                  "range": [theme.colour("faulty"), theme.colour("healthy")]},
    }  # fmt: skip
    dash = {
        "field": "kind",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": ["fault", "repair"], "range": [[1, 0], [4, 3]]},
    }
    lines: dict[str, object] = {
        "data": {"values": values},
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {
            "x": step, "color": colour, "strokeDash": dash,
            "description": {"field": "says", "type": "nominal"},
        },
    }  # fmt: skip
    words: list[dict[str, object]] = [
        {
            "data": {"values": [one for one in values if _is_left(one["step"], last_step) == left]},
            "mark": {"type": "text", "align": "left" if left else "right",
                     "dx": 5 if left else -5, "fontSize": 11.5, "aria": False},
            "encoding": {
                "x": step, "color": colour, "text": {"field": "label"},
                "y": {"field": "row", "type": "quantitative", "scale": None},
            },
        }
        for left in (True, False)
    ]  # fmt: skip
    return [lines, *words]


def _is_left(step: object, last_step: int) -> bool:
    """Tell whether there is room for words to the right of a step."""
    return isinstance(step, int) and step < last_step * 0.6


def _not_finite(
    points: Sequence[LossPoint], step: object, theme: Theme, *, y: int
) -> dict[str, object]:
    values = [
        {"step": p.step, "says": f"The loss of attempt {p.attempt} at step {p.step} is not finite"}
        for p in points
        if p.loss is None
    ]
    return {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "shape": SHAPES["faulty"], "size": 60, "y": y,
                 "color": theme.colour("faulty"), "opacity": 1},
        "encoding": {"x": step, "description": {"field": "says", "type": "nominal"}},
    }  # fmt: skip
