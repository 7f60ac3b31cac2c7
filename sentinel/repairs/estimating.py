"""Optimizers that estimate their learning rate themselves: what is lowered in its place.

Prodigy multiplies the rate it is given with its estimate and wants it to be 1.0; its authors say
to ask for smaller steps by `d_coef`, which is 1.0 unless told
(https://github.com/konstmish/prodigy). D-Adaptation has no such coefficient, and its authors say
to lower the rate (https://github.com/facebookresearch/dadaptation).
"""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.formats.settings import Setting

RATE = "optimizer.learning_rate"
COEFFICIENT = "optimizer.args.d_coef"
UNTOLD_COEFFICIENT = 1.0

_PRODIGY = "prodigy"


def factored(name: str, wish: object, now: Mapping[str, Setting]) -> str:
    """Return the setting that a wish is about: of Prodigy a factor of the rate is one of `d_coef`.

    A value that a finding names stays one of the rate: it is the 1.0 that Prodigy wants.
    """
    estimates = _PRODIGY in str(now.get("optimizer.name", "")).lower()
    is_factor = isinstance(wish, Mapping) and "times" in wish
    return COEFFICIENT if name == RATE and is_factor and estimates else name


def known(name: str, now: Mapping[str, Setting]) -> Setting | None:
    """Return what a setting is now; the coefficient is 1.0 where nobody told it."""
    return now.get(name, UNTOLD_COEFFICIENT if name == COEFFICIENT else None)
