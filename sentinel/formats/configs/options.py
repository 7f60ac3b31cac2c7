"""Options of a command line as fields: `--lr 1e-4`, `--lr=1e-4`, flags, lists, `key=value`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_OPTION = re.compile(r"--?([A-Za-z][\w.\-]*)(?:=(.*))?", re.DOTALL)
_ASSIGNMENT = re.compile(r"(?:\+\+?)?([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Options:
    """What a command was told: ``named`` by name with underscores, ``plain`` words by place.

    The value is text, a list of texts, or True for an option without one; of an option given twice
    the last counts there, and ``every`` has all of its values. Words of the form `key=value` before
    the first option, as OmegaConf takes them, are in ``assigned``.
    """

    named: dict[str, object] = field(default_factory=dict)
    every: dict[str, list[str]] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    assigned: dict[str, object] = field(default_factory=dict)


def options_of(words: Iterable[str]) -> Options:
    """Return the options among a command's words."""
    named: dict[str, list[str]] = {}
    every: dict[str, list[str]] = {}
    plain: list[str] = []
    assigned: dict[str, object] = {}
    current: str | None = None
    for word in words:
        match = _OPTION.fullmatch(word)
        if match:
            current = match[1].replace("-", "_")
            named[current] = []
        if match and match[2] is None:
            continue
        value = match[2] if match else word
        if current is not None:
            named[current].append(value)
            every.setdefault(current, []).append(value)
        elif told := _ASSIGNMENT.fullmatch(word):
            assigned[told[1]] = told[2]
        else:
            plain.append(word)
    told_of = {name: _value(values) for name, values in named.items()}
    return Options(told_of, every, tuple(plain), assigned)


def _value(values: list[str]) -> object:
    if not values:
        return True
    return values[0] if len(values) == 1 else values
