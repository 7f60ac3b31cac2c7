"""Arguments by name in one field: `eps=1e-6,scale_parameter=False`, a list of such, a mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sentinel.repairs.recipes import Value
from sentinel.repairs.words import text_of

Form = Literal["text", "list", "mapping"]


def with_pair(
    held: object, name: str, value: Value, form: Form
) -> str | list[str] | dict[str, object]:
    """Return a field's arguments with one of them set, the others as they were.

    Python's parsers of such texts take `True` and `False` in capitals only.
    """
    if form == "mapping":
        known = dict(held) if isinstance(held, Mapping) else {}
        return {**known, name: value}
    pair = f"{name}={value if isinstance(value, bool) else text_of(value)}"
    others = [text for text in _texts(held, form) if text.partition("=")[0].strip() != name]
    return [*others, pair] if form == "list" else ",".join([*others, pair])


def _texts(held: object, form: Form) -> Sequence[str]:
    if isinstance(held, str):
        return _split(held) if form == "text" else held.split()
    return [str(text) for text in held] if isinstance(held, list) else []


def _split(text: str) -> list[str]:
    """Split at the commas that are in no bracket: `betas=(0.9,0.99),eps=1e-8`."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
