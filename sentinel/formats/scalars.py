"""Taking single values out of JSON that nobody has checked: the right type, or None."""

from __future__ import annotations

import math

_LARGEST = 2**63 - 1


def brief(value: object) -> str:
    """Return a value of a file in a few characters; of a list or a node only what it is.

    Parts of a pickle may be shared: a list of a few hundred bytes can be a text of a terabyte.
    """
    if isinstance(value, str | int | float | None):
        return f"{value!s:.200}"
    return type(value).__name__


def as_count(value: object) -> int | None:
    """Return a non-negative integer that fits 64 bits; also one spelled as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:  # noqa: PLR2004 - digits of 2**63
        value = int(value)
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def as_number(value: object) -> float | None:
    """Return a number as float, NaN and Inf included; None for anything else."""
    if type(value) is float:
        return value
    if type(value) is int and abs(value) <= _LARGEST:
        return float(value)
    return None


def as_finite(value: object) -> float | None:
    """Return a finite number as float; None for anything else."""
    number = as_number(value)
    return number if number is not None and math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """Return a string that can be encoded; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return value
