"""Filling the message of a rule: numbers in short, names in groups."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from string import Formatter

BUILT_IN = ("hits", "rows", "at", "after", "names", "first")
"""What every message may use beside the rule's own facts and parameters: bad rows, rows in scope,
"at step 5", "after 5 updates", the tensors in groups, the first of them."""

_FEW = 3
_LONGEST = 2000
_LONGEST_NAME = 200
"""Names come from files that nobody has checked, and a message is a sentence."""

_DIGITS = re.compile(r"\d+")
_UNKNOWN = "unknown"


def placeholders(template: str) -> set[str]:
    """Return the names in braces; raise ValueError for a brace that is not closed."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def fill(template: str, values: Mapping[str, object]) -> str:
    """Return the message with its values, on one line."""
    text = template.format_map({name: say(value) for name, value in values.items()})
    return " ".join(text.split())


def say(value: object) -> str:
    """Return a value for a reader: three significant digits, NaN and Inf by name."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (float, Decimal)):
        number = float(value)
        if not math.isfinite(number):
            return str(number)
        return str(int(number)) if number.is_integer() and abs(number) < 1e6 else f"{number:.3g}"  # noqa: PLR2004 - longer ones read better as powers
    if isinstance(value, (list, tuple)):
        return ", ".join(say(item) for item in value)
    return _cut(str(value), _LONGEST)


def at_step(step: int | None) -> str:
    """Return when it was, as far as that is known."""
    return "in this checkpoint" if step is None else f"at step {step}"


def after_updates(updates: int | None) -> str:
    """Return after how many updates it was, as far as that is known."""
    if updates is None:
        return "after an unknown number of updates"
    return f"after {updates} update{'' if updates == 1 else 's'}"


def group_names(names: Sequence[str]) -> str:
    """Return a few names in quotes, many as patterns with their counts.

    Two names that differ in numbers only (a layer, a block) have one pattern.
    """
    if len(names) <= _FEW:
        return ", ".join(f"'{_cut(name, _LONGEST_NAME)}'" for name in names)
    patterns = Counter(_DIGITS.sub("*", _cut(name, _LONGEST_NAME)) for name in names)
    common = patterns.most_common(_FEW)
    rest = len(names) - sum(count for _, count in common)
    groups = [f"{count} like '{pattern}'" for pattern, count in common]
    return ", ".join(groups) + (f" and {rest} more" if rest else "")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."
