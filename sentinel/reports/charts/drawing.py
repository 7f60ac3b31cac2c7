"""From a specification to SVG or PNG, by vl-convert: Vega bundled, no browser and no network."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from types import ModuleType

from sentinel.errors import ConfigError

EXTRA = "pip install 'checkpoint-sentinel[report]'"

_SIZE = re.compile(r'<svg ([^>]*?)width="([\d.]+)" height="([\d.]+)"')
_DEFINED = re.compile(r'(id="|url\(#)([A-Za-z]\w*)')
_LABEL = re.compile(r'aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="[^"]*"')
_ROLE = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_NUMBER = re.compile(r"(\d\.\d{2})\d{4,}")


def engine() -> ModuleType:
    """Return the drawing library, or raise ConfigError when the extra is not installed."""
    try:
        import vl_convert  # noqa: PLC0415 - an extra, only needed when something is drawn
    except ImportError:
        raise ConfigError(
            "report", fact="its drawing library is not installed", todo=f"run `{EXTRA}`"
        ) from None
    module: ModuleType = vl_convert
    return module


def to_svg(spec: Mapping[str, object]) -> str:
    """Return a drawing that stands by itself, as one SVG document."""
    return _svg(spec)


def to_png(spec: Mapping[str, object], *, scale: float = 2.0) -> bytes:
    """Return a drawing as PNG; ``scale`` is dots per CSS pixel. Its colours must be concrete."""
    white = {**spec, "background": "#ffffff"}
    png: bytes = engine().vegalite_to_png(white, scale=scale, allowed_base_urls=[])
    return png


def to_inline_svg(spec: Mapping[str, object], name: str, *, one_image: bool = False) -> str:
    """Return a drawing to be put into a page, with an accessible name.

    ``name`` keeps its ids apart from those of other drawings in the page. Each mark has its
    description as a label; ``one_image`` makes the whole a single image for a screen reader, for
    drawings of very many marks, and keeps the descriptions as ``data-tip``. The page's
    style makes it no wider than there is room.
    """
    svg = _DEFINED.sub(rf"\g<1>{name}-\g<2>", _svg(spec))
    if one_image:
        svg = _ROLE.sub("", _LABEL.sub(r'data-tip="\1"', svg))
    said = html.escape(str(spec.get("description", "")), quote=True)
    role = "img" if one_image else "graphics-document"

    def opening(match: re.Match[str]) -> str:
        rest, width, height = match.groups()
        return f'<svg {rest}role="{role}" aria-label="{said}" width="{width}" height="{height}"'

    return _SIZE.sub(opening, svg, count=1)


def _svg(spec: Mapping[str, object]) -> str:
    svg: str = engine().vegalite_to_svg(dict(spec), allowed_base_urls=[])
    return _NUMBER.sub(r"\1", svg)
