"""Drawings of charts, made once as long as what they show stays the same."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from threading import Lock

from sentinel.reports.charts.drawing import to_inline_svg
from sentinel.reports.charts.theme import NARROW, WIDE, page_theme
from sentinel.reports.picture.drawings import Drawn
from sentinel.reports.picture.figures import Figure

_MOST_BYTES = 16 * 1024 * 1024


class Drawings:
    """Draws figures, and keeps the newest drawings up to 16 MiB of text."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._size_bytes = 0
        # The engine is one, and its answers are the same whoever asks.
        self._lock = Lock()

    def draw(self, figure: Figure) -> Drawn:
        """Return a figure with its drawings for a desk and a telephone."""
        wide, narrow = (self._drawing(figure, width) for width in (WIDE, NARROW))
        return Drawn(figure, wide, narrow)

    def _drawing(self, figure: Figure, width: int) -> str:
        spec = figure.draw(page_theme(width))
        name = f"{figure.id}-{width}"
        told = json.dumps([name, figure.is_dense, spec], sort_keys=True, default=str)
        key = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
        with self._lock:
            if key not in self._known:
                self._keep(key, to_inline_svg(spec, name, one_image=figure.is_dense))
            self._known.move_to_end(key)
            return self._known[key]

    def _keep(self, key: str, svg: str) -> None:
        self._known[key] = svg
        self._size_bytes += len(svg)
        while self._size_bytes > _MOST_BYTES and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._size_bytes -= len(oldest)
