"""What all charts share: colours that are told apart without seeing colour, sizes, fonts.

Hues are Okabe and Ito's (https://jfly.uni-koeln.de/color/), darkened where text or thin marks
need contrast; verdicts also differ in shape. The ramp is ColorBrewer's Blues
(https://colorbrewer2.org/), which keeps its order in greyscale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sentinel.verdict import Level

Layer = dict[str, object]
"""One layer of a chart: its rows, its mark, and how they are encoded."""

WIDE, NARROW = 860, 340
"""Widths in CSS pixels of a chart for a desk and for a telephone."""

BESIDE = 64
"""Pixels left of charts over steps, for words and numbers: so that their steps line up."""

SHAPES: Mapping[Level, str] = MappingProxyType(
    {
        "healthy": "circle",
        "suspect": "triangle-up",
        "unreadable": "diamond",
        "faulty": "M-.7,-1 0,-.3 .7,-1 1,-.7 .3,0 1,.7 .7,1 0,.3 -.7,1 -1,.7 -.3,0 -1,-.7Z",
    }
)
"""Marks of the verdicts, as Vega names or draws them in a square from -1 to 1."""

LIGHT: Mapping[str, str] = MappingProxyType(
    {
        "ink": "#1b1f24", "soft": "#57606a", "line": "#d0d7de", "ground": "#ffffff",
        "card": "#f6f8fa", "healthy": "#007a5a", "suspect": "#a45a00", "unreadable": "#8a3d78",
        "faulty": "#c43302", "accent": "#0063a5", "second": "#8a3d78", "third": "#a45a00",
        "ramp-0": "#eff3f8", "ramp-1": "#d3e3f1", "ramp-2": "#a9cce4", "ramp-3": "#6fadd5",
        "ramp-4": "#3f8cc0", "ramp-5": "#1f68a6", "ramp-6": "#0b4380", "unknown": "#ffffff",
    }
)  # fmt: skip
DARK: Mapping[str, str] = MappingProxyType(
    {
        "ink": "#e6edf3", "soft": "#9da7b3", "line": "#3a434e", "ground": "#0f1419",
        "card": "#171d24", "healthy": "#3fc79a", "suspect": "#f0a63c", "unreadable": "#dd8fc8",
        "faulty": "#ff7a50", "accent": "#58b0f0", "second": "#dd8fc8", "third": "#f0a63c",
        "ramp-0": "#1a2735", "ramp-1": "#17395a", "ramp-2": "#1c5280", "ramp-3": "#2b70a8",
        "ramp-4": "#4a93cb", "ramp-5": "#80b8e2", "ramp-6": "#c4e0f6", "unknown": "#0f1419",
    }
)  # fmt: skip

_LONG = 9999
"""Steps beyond this are written shortly: 20k."""

RAMP = 7
"""Steps of the ramp, from little to much."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours by name, and how wide a chart may be in CSS pixels.

    The colours of a page are CSS variables, so that it can be dark, light or printed without being
    drawn again; those of a picture by itself are concrete.
    """

    colours: Mapping[str, str]
    width: int = WIDE

    @property
    def is_narrow(self) -> bool:
        """Tell whether it is drawn for a telephone."""
        return self.width < (WIDE + NARROW) / 2

    def colour(self, name: str) -> str:
        """Return a colour as SVG takes it."""
        return self.colours[name]

    def ramp(self) -> list[str]:
        """Return the colours from little to much."""
        return [self.colours[f"ramp-{step}"] for step in range(RAMP)]


def page_theme(width: int = WIDE) -> Theme:
    """Return the theme of a chart inside a page that defines the variables."""
    return Theme({name: f"var(--sentinel-{name})" for name in LIGHT}, width)


def picture_theme(width: int = WIDE) -> Theme:
    """Return the theme of a picture that stands by itself, dark on white."""
    return Theme(LIGHT, width)


def css_variables(colours: Mapping[str, str]) -> str:
    """Return the declarations that give a page these colours."""
    return "".join(f"--sentinel-{name}:{value};" for name, value in colours.items())


def step_axis(last_step: int) -> dict[str, object]:
    """Return the encoding of steps from 0 to ``last_step``, the same for charts that line up."""
    return {
        "field": "step", "type": "quantitative", "scale": {"domain": [0, max(1, last_step)]},
        "axis": {"title": "step", "grid": False, "tickMinStep": 1, "tickCount": 8,
                 "format": ",.4~s" if last_step > _LONG else ",d"},
    }  # fmt: skip


def chart(
    theme: Theme, title: str, layers: Sequence[Layer], body: Mapping[str, object]
) -> dict[str, object]:
    """Return a whole specification: ``body`` with the look of the house.

    ``title`` becomes the description, which is the accessible name of the drawing. Layers without
    a row are left out: each would be a nameless mark to a screen reader.
    """
    ink, soft, line = (theme.colour(name) for name in ("ink", "soft", "line"))
    # Faces of equal widths everywhere: the drawing is laid out before a browser sees it.
    font = "Arial, Liberation Sans, Helvetica, sans-serif"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": title,
        "background": "transparent",
        "padding": 4,
        "autosize": {"type": "fit", "contains": "padding"},
        **body,
        "layer": [layer for layer in layers if _has_rows(layer)],
        "config": {
            "font": font,
            "view": {"stroke": None},
            "axis": {
                "labelColor": soft, "titleColor": soft, "domainColor": line, "tickColor": line,
                "gridColor": line, "labelFontSize": 12, "titleFontSize": 12,
                "titleFontWeight": "normal", "labelLimit": 240,
            },
            "text": {"color": ink, "fontSize": 12},
            "header": {"labelColor": ink, "titleColor": soft, "labelFontSize": 12},
        },
    }  # fmt: skip


def _has_rows(layer: Layer) -> bool:
    data = layer["data"]
    return isinstance(data, dict) and bool(data.get("values"))
