"""The charts by themselves: colours, borders, what is left out of them."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.health.modules import ValueRange
from sentinel.reports.charts.drawing import to_inline_svg, to_png, to_svg
from sentinel.reports.charts.heatmap import SHARE_BORDERS, thresholds
from sentinel.reports.charts.loss import LossPoint, loss_chart
from sentinel.reports.charts.ranges import FORMATS, ranges_chart
from sentinel.reports.charts.theme import (
    DARK,
    LIGHT,
    NARROW,
    RAMP,
    SHAPES,
    WIDE,
    css_variables,
    page_theme,
    picture_theme,
)
from sentinel.reports.picture.figures import figures_of
from sentinel.reports.picture.losses import MOST_POINTS
from sentinel.reports.picture.thinning import thinned
from sentinel.reports.picture.told import told
from sentinel.reports.picture.values import range_rows
from sentinel.verdict import LEVELS

torch = pytest.importorskip("torch", reason="the limits are compared with torch's")


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_read(colours):
    """Everything written in a colour has the contrast of 4.5 that WCAG asks of text."""
    for name in ("ink", "soft", "accent", "second", "third", *LEVELS):
        for ground in ("ground", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_the_ramp_keeps_its_order_without_colour(colours):
    """From little to much it leaves the ground step by step, so greyscale says the same."""
    away = [contrast(colours[f"ramp-{step}"], colours["ground"]) for step in range(RAMP)]

    assert away == sorted(away)
    assert all(after / before > 1.1 for before, after in pairwise(away))


def test_verdicts_differ_in_shape_too():
    """Nobody needs colours to tell them apart."""
    assert len(set(SHAPES.values())) == len(SHAPES) == len(LEVELS)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_drawing_for_the_page_has_no_colour_of_its_own(repaired, width):
    """Every colour is a variable that the page defines, so that dark and print need no script."""
    run = told(repaired.log.root, repaired.run_id)
    defined = set(re.findall(r"--sentinel-[\w-]+", css_variables(LIGHT)))

    for figure in figures_of(run):
        svg = to_inline_svg(figure.draw(page_theme(width)), figure.id)
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) - {"none", "transparent"}
        assert colours
        assert all(one.startswith("var(--sentinel-") for one in colours), (figure.id, colours)
        assert set(re.findall(r"--sentinel-[\w-]+", svg)) <= defined
        assert float(ET.fromstring(svg).attrib["width"]) <= width + 20


def test_a_picture_by_itself_has_concrete_colours(repaired):
    """SVG and PNG open anywhere; no variable is left undefined."""
    run = told(repaired.log.root, repaired.run_id)

    for figure in figures_of(run):
        spec = figure.draw(picture_theme())
        svg = to_svg(spec)
        assert "var(" not in svg
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert to_png(spec, scale=1).startswith(b"\x89PNG\r\n\x1a\n")


def test_marks_of_a_dense_drawing_are_one_image():
    """A screen reader hears its name and goes on to the table; the pointer still finds words."""
    points = [LossPoint(1, 1, 2.0), LossPoint(1, 2, None)]
    spec = loss_chart(points, [], page_theme(), last_step=2)

    svg = to_inline_svg(spec, "x", one_image=True)

    assert svg.count("aria-label") == 1
    assert 'role="img"' in svg
    assert 'data-tip="The loss of attempt 1 at step 2 is not finite"' in svg


@given(st.lists(st.floats(0, 1e30), max_size=40))
@example([1e23, 1e-285])
def test_borders_part_what_is_there(values):
    """They rise, exactly zero lies below all, the largest above all or nearly."""
    borders = thresholds(values)

    assert len(borders) == RAMP - 1 == len(SHARE_BORDERS)
    assert borders == sorted(borders)
    assert borders[0] > 0
    if any(values) and min(filter(None, values)) > 1e-300:
        assert borders[-1] <= max(values) * (1 + 1e-9)


def test_the_limits_are_those_of_the_formats():
    """Largest, smallest normal and smallest value as torch knows them."""
    for one, dtype in zip(FORMATS, (torch.float16, torch.bfloat16), strict=True):
        info = torch.finfo(dtype)
        assert (one.largest, one.normal) == (info.max, info.smallest_normal)
        assert one.smallest == info.smallest_normal * info.eps
        below = torch.tensor(one.smallest / 2, dtype=torch.float64)
        assert below.to(dtype) == 0


def test_magnitudes_far_outside_are_drawn():
    """The axis reaches to what there is; zeros alone have a row and no bar."""
    ranges = [
        ValueRange(1, "lora_up", "BF16", 1e-20, 1e-18, 1e30, 0.0, 0.0, 0.0),
        ValueRange(1, "lora_down", "F16", None, None, None, 1.0, 0.0, 0.0),
    ]

    svg = to_svg(ranges_chart(range_rows(ranges), picture_theme()))

    assert "lora_up BF16: usually 1e-20 to 1e-18, largest 1e+30" in svg
    assert "all exactly zero" in svg


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50])
def test_thinning_keeps_the_gravest(repaired, most):
    """As many as asked for at most, in order, and what went bad among them."""
    rows = told(repaired.log.root, repaired.run_id).rows

    kept = thinned(rows, most)

    assert len(kept) == min(most, len(kept)) <= most
    assert [rows.index(row) for row in kept] == sorted(rows.index(row) for row in kept)
    if most >= 2:
        assert any(row.verdict == "faulty" for row in kept)


def test_a_curve_of_many_points_is_small():
    """As many as a curve may have take some kilobytes, since they are one line."""
    points = [LossPoint(1, step, 1.0 + step % 7) for step in range(MOST_POINTS)]

    svg = to_svg(loss_chart(points, [], picture_theme(), last_step=MOST_POINTS))

    assert len(svg) < 40_000
