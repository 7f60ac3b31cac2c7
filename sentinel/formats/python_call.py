"""Text such as ``torch.optim.AdamW(weight_decay=0.1,betas=(0.9, 0.99))``, taken apart, not run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sentinel.formats.settings import Setting

Argument = Setting | tuple[Setting | None, ...] | None
"""A value as Python would print it; what is no number, switch or None stays text."""

_LONGEST = 4096
_CALL = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?:\((?P<arguments>.*)\))?", re.DOTALL)
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_WORDS: Mapping[str, bool | None] = {"True": True, "False": False, "None": None}


@dataclass(frozen=True, slots=True)
class Call:
    """A dotted name and its keyword arguments."""

    name: str
    arguments: Mapping[str, Argument]


def call_of(text: str) -> Call | None:
    """Return what a text says, None when it does not begin as a call does, or is too long."""
    found = _CALL.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        return None
    arguments: dict[str, Argument] = {}
    for part in _parts(found["arguments"] or ""):
        key, equals, value = part.partition("=")
        if equals and key.strip().isidentifier():
            arguments[key.strip()] = _value(value.strip())
    return Call(found["name"], arguments)


def _parts(text: str) -> Iterator[str]:
    """Yield what stands between the commas that are in no bracket."""
    depth, begin = 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]


def _value(text: str) -> Argument:
    if text[:1] in {"(", "["} and text[-1:] in {")", "]"}:
        return tuple(_leaf(part.strip()) for part in _parts(text[1:-1]) if part.strip())
    return _leaf(text)


def _leaf(text: str) -> Setting | None:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
