"""How long to wait before a trainer is started again."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 30
_SPREAD = 0.2


def pause_s(
    failures: int,
    *,
    first_s: float,
    most_s: float,
    chance: Callable[[], float] = random.random,
) -> float:
    """Return the pause after so many failures in a row (at least one), in seconds.

    It doubles up to ``most_s`` and is then shortened by up to a fifth, by ``chance`` (0 to 1):
    runs that failed together, on one disk or one driver, do not come back together.
    """
    doubled_s = first_s * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)
    return min(doubled_s, most_s) * (1.0 - _SPREAD * chance())
