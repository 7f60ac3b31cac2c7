"""Amounts of bytes as people write and read them."""

from __future__ import annotations

import re

_FACTORS = {
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)},
    "b": 1,
    "": 1,
}
_AMOUNT = re.compile(r"(?P<number>\d{1,15}(\.\d{1,6})?)\s*(?P<unit>[A-Za-z]*)")


def size_of(text: str) -> int | None:
    """Return the bytes of "20GiB", "1.5 TB" or "1000000"; None for what is no amount."""
    match = _AMOUNT.fullmatch(text.strip())
    factor = _FACTORS.get(match["unit"].lower()) if match else None
    return None if match is None or factor is None else int(float(match["number"]) * factor)


def size_words(size_bytes: int) -> str:
    """Return an amount as "13.2 MB": three digits, powers of 1000."""
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004 - the step from one unit to the next
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"
