"""Figures as drawings to be put into a page, each for a desk and for a telephone."""

from __future__ import annotations

from dataclasses import dataclass

from sentinel.reports.charts.drawing import to_inline_svg
from sentinel.reports.charts.theme import NARROW, WIDE, page_theme
from sentinel.reports.picture.figures import Figure


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with its two drawings, as SVG to be put into the page."""

    figure: Figure
    wide: str
    narrow: str


def drawn(figure: Figure) -> Drawn:
    """Return a figure with its drawings, whose colours are variables of the page."""
    wide, narrow = (
        to_inline_svg(
            figure.draw(page_theme(width)), f"{figure.id}-{width}", one_image=figure.is_dense
        )
        for width in (WIDE, NARROW)
    )
    return Drawn(figure, wide, narrow)
