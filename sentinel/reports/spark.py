"""Numbers and verdicts of a run as one short line each, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TypeVar

from rich.text import Text

from sentinel.reports.words import STYLE_OF_LEVEL
from sentinel.verdict import LEVELS, Level

One = TypeVar("One")

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
PLAIN = "_.-:=+*#"
"""Eight heights each; PLAIN is for encodings that have no blocks."""

NOT_FINITE = "!"

_LEAST = 2
"""So many make a line."""

SIGNS: Mapping[Level, str] = MappingProxyType(
    {"healthy": ".", "suspect": "~", "unreadable": "?", "faulty": "!"}
)
LEGEND = ", ".join(f"{sign} {level}" for level, sign in SIGNS.items())


def sparkline(values: Sequence[float | None], width: int, encoding: str) -> str:
    """Return the values as heights between their least and their largest, in order.

    More than ``width`` of them are put together, each column showing its largest. NaN and Inf
    are ``!`` and win over any number; unknown values (None) are blank.
    """
    columns = [_highest(group) for group in _groups(values, width)]
    finite = [one for one in columns if one is not None and math.isfinite(one)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    heights = _heights(encoding)
    return "".join(_sign(one, low, high, heights) for one in columns)


def verdict_strip(levels: Sequence[Level], width: int) -> Text:
    """Return the verdicts as signs, in order; columns that hold several show the worst."""
    strip = Text()
    for group in _groups(levels, width):
        level = max(group, key=LEVELS.index)
        strip.append(SIGNS[level], STYLE_OF_LEVEL[level])
    return strip


def drawn(
    levels: Sequence[Level],
    series: Mapping[str, Sequence[float | None]],
    width: int,
    encoding: str,
    *,
    words: bool = True,
) -> Iterator[Text]:
    """Yield a strip of the verdicts, and a line of each series of which anything is known.

    With ``words`` the first and last number stand behind it. One checkpoint alone draws nothing.
    """
    if len(levels) < _LEAST:
        return
    known = {name: values for name, values in series.items() if any(v is not None for v in values)}
    room = max(map(len, ("verdicts", *known)))
    yield Text.assemble((f"{'verdicts':<{room}}  ", "dim"), verdict_strip(levels, width))
    for name, values in known.items():
        line = sparkline(values, width, encoding)
        said = f"  {span_words(values)}" if words else ""
        yield Text.assemble((f"{name:<{room}}  ", "dim"), line, (said, "dim"))


def span_words(values: Iterable[float | None]) -> str:
    """Return the first and the last known value and, where it lies outside, the largest."""
    known = [one for one in values if one is not None]
    if not known:
        return ""
    said = f"{known[0]:.3g} to {known[-1]:.3g}" if len(known) > 1 else f"{known[0]:.3g}"
    finite = [one for one in known if math.isfinite(one)]
    top = max(finite, default=None)
    return said if top is None or top in {known[0], known[-1]} else f"{said}, at most {top:.3g}"


def _groups(values: Sequence[One], width: int) -> list[Sequence[One]]:
    count = min(len(values), max(1, width))
    edges = [len(values) * number // count for number in range(count + 1)] if count else []
    return [values[start:end] for start, end in pairwise(edges)]


def _highest(group: Sequence[float | None]) -> float | None:
    known = [one for one in group if one is not None]
    wild = next((one for one in known if not math.isfinite(one)), None)
    return wild if wild is not None else max(known, default=None)


def _sign(value: float | None, low: float, high: float, heights: str) -> str:
    if value is None:
        return " "
    if not math.isfinite(value):
        return NOT_FINITE
    # Halved first: the span of two finite numbers need not be finite.
    span = high / 2 - low / 2
    share = (value / 2 - low / 2) / span if span else 0.0
    return heights[min(int(share * len(heights)), len(heights) - 1)]


def _heights(encoding: str) -> str:
    try:
        BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return BLOCKS
