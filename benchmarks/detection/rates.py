"""Rates with n and their 95 % interval (Wilson, https://doi.org/10.2307/2276774)."""

from __future__ import annotations

import math

_Z = 1.959964


def rate(hits: int, count: int) -> str:
    """Return `hits of count`, with the 95 % interval of the rate."""
    if not count:
        return "none run"
    low, high = wilson(hits, count)
    return f"{hits} of {count} ({100 * low:.1f} to {100 * high:.1f} %)"


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return Wilson's score interval of a rate."""
    share = hits / count
    middle = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return (max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))
