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

    The value is text, a list of texts, or True for an option without one. Words of the form
    `key=value` before the first option, as OmegaConf and Hydra take them, are in ``assigned``.
    """

    named: dict[str, object] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    assigned: dict[str, object] = field(default_factory=dict)


def options_of(words: Iterable[str]) -> Options:
    """Return the options among a command's words; of one given twice the last counts."""
    named: dict[str, list[str]] = {}
    repeated: dict[str, list[str]] = {}
    plain: list[str] = []
    assigned: dict[str, object] = {}
    current: str | None = None
    for word in words:
        match = _OPTION.fullmatch(word)
        if match:
            current = match[1].replace("-", "_")
            repeated.setdefault(current, []).extend(named.get(current, []))
            named[current] = [] if match[2] is None else [match[2]]
        elif current is not None:
            named[current].append(word)
        elif told := _ASSIGNMENT.fullmatch(word):
            assigned[told[1]] = told[2]
        else:
            plain.append(word)
    return Options({name: _value(values) for name, values in named.items()}, tuple(plain), assigned)


def _value(values: list[str]) -> object:
    if not values:
        return True
    return values[0] if len(values) == 1 else values
