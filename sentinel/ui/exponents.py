"""The magnitudes of a checkpoint's tensors, from what the log keeps of each: a figure."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from sentinel.reports.charts.exponents import ExponentBar, exponents_chart
from sentinel.reports.charts.theme import Theme
from sentinel.reports.picture.figures import Figure
from sentinel.reports.picture.same_in_words import TextTable

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ["numel", "zero_count", "nan_count", "inf_count", "l2", "abs_max", "role"]


def exponents_figure(tensors: pa.Table) -> Figure | None:
    """Return the figure of a checkpoint's tensors, None where nothing but zero is known.

    The log keeps no value by itself: of each tensor its root mean square (of finite values other
    than zero) and its largest finite magnitude are counted, each once.
    """
    usual, largest = Counter[int](), Counter[int]()
    for row in tensors.select(_COLUMNS).to_pylist():
        if row["role"] == "alpha":
            continue
        rms = _rms(row["l2"], row)
        if rms:
            usual[_exponent(rms)] += 1
        if row["abs_max"] and math.isfinite(row["abs_max"]):
            largest[_exponent(row["abs_max"])] += 1
    if not usual and not largest:
        return None
    span = range(min([*usual, *largest]), max([*usual, *largest]) + 1)
    bars = [ExponentBar(at, usual[at], largest[at]) for at in span]

    def draw(theme: Theme) -> dict[str, object]:
        return exponents_chart(bars, theme)

    caption = (
        "Tensors by the power of two of their root mean square (upwards) and of their largest"
        " magnitude (downwards), zeros and values that are not finite left out. Dashed lines are"
        " fp16's limits: 2^16, where it ends, 2^-14, below which it loses precision bit by bit, and"
        " 2^-24, its smallest value."
    )
    rows = tuple(
        (f"2^{bar.exponent}", f"{2.0**bar.exponent:.3g}", str(bar.usual), str(bar.largest))
        for bar in bars
        if bar.usual or bar.largest
    )
    table = TextTable(("from", "value", "tensors by root mean square", "tensors by largest"), rows)
    return Figure("exponents", "Magnitudes", caption, draw, table)


def _rms(l2: float | None, row: dict[str, int | None]) -> float | None:
    if l2 is None or not math.isfinite(l2) or l2 <= 0:
        return None
    left_out = sum(row[name] or 0 for name in ("zero_count", "nan_count", "inf_count"))
    count = (row["numel"] or 0) - left_out
    return l2 / math.sqrt(count) if count > 0 else None


def _exponent(value: float) -> int:
    return math.frexp(value)[1] - 1
