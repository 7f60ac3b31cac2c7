"""Words for people: names made safe to print, remedies and verdicts in plain language."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime, tzinfo
from pathlib import Path, PurePath
from types import MappingProxyType

from sentinel.checkpoint import Checkpoint
from sentinel.health.plain import json_text, path_text, valid_text
from sentinel.sizes import size_words
from sentinel.stats.quick import Skipped
from sentinel.verdict import Finding, Level, Severity

STYLE_OF_LEVEL: Mapping[Level, str] = MappingProxyType(
    {"healthy": "green", "suspect": "yellow", "unreadable": "magenta", "faulty": "bold red"}
)
STYLE_OF_SEVERITY: Mapping[Severity, str] = MappingProxyType(
    {"critical": "bold red", "unreadable": "magenta", "warning": "yellow", "info": "cyan"}
)

TEXT_WIDTH = 100
"""Sentences are wrapped here even on a wider terminal: longer lines are hard to read."""

_BELOW_OUTPUT = frozenset({"backup", "save", "checkpoints"})
"""OneTrainer's two directories of a workspace, and Lightning's of a version."""

_RESUMED = "-resumed"

TODO = "; "
"""Messages of rules end in ``; what to do``."""

_UNPRINTABLE = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode categories that move the cursor, reorder or hide text: control and format
characters, line and paragraph separators (https://www.unicode.org/reports/tr44/)."""

_PRECISION = MappingProxyType(
    {
        "auto": "in the precision the device is good at (bf16 or fp32)",
        "bf16": "in bf16",
        "fp32": "in fp32",
        "fp16": "in fp16",
    }
)
_OPTIMIZER = MappingProxyType(
    {"drop": "without the saved optimizer state", "keep": "with the saved optimizer state"}
)


def shown(text: str, encoding: str = "utf-8") -> str:
    r"""Return text that a terminal prints as it stands.

    Names come from files and may hold escape sequences; such characters appear as ``\x1b``, and
    so do those that the terminal's ``encoding`` cannot say.
    """
    safe = "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in _UNPRINTABLE
        else char
        for char in valid_text(text)
    )
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def run_words(checkpoint: PurePath) -> str:
    """Return what people call a run, by where one of its checkpoints lies: its output directory.

    What a trainer keeps below that, and the number that a repair adds (`OUTPUT-resumed/2`), are
    nobody's name. Empty when the path has no such directory.
    """
    place = checkpoint.parent
    while place.name in _BELOW_OUTPUT:
        place = place.parent
    if place.name.isdigit() and place.parent.name.endswith(_RESUMED):
        return shown(place.parent.name.removesuffix(_RESUMED))
    return shown(place.name)


def skipped_words(skipped: Skipped) -> str:
    """Return what less than a whole look left out, in a few words."""
    parts = []
    if skipped.screened_count:
        parts.append(
            f"{skipped.screened_count} tensors ({size_words(skipped.screened_bytes)}) only screened"
            " for NaN, Inf and zeros"
        )
    if skipped.unread_count:
        parts.append(
            f"{skipped.unread_count} tensors ({size_words(skipped.unread_bytes)}) not read"
        )
    return f"{skipped.depth}: " + (
        ", ".join(parts) or "nothing was skipped but digests and products"
    )


def path_words(path: Path, base_dir: Path) -> str:
    """Return a path relative to what was asked about, or whole when it lies elsewhere."""
    try:
        relative = path.relative_to(base_dir)
    except ValueError:
        return path_text(path)
    # The path that was asked about is itself the checkpoint: its name says more than ".".
    return path_text(relative) if relative.parts else path_text(Path(path.name or path))


def origin_words(checkpoint: Checkpoint) -> str:
    """Return step, layout and trainer; a trainer that the layout names already is left out."""
    step = "step ?" if checkpoint.step is None else f"step {checkpoint.step}"
    named = checkpoint.trainer is not None and checkpoint.trainer not in checkpoint.layout
    trainer = f" ({checkpoint.trainer})" if named else ""
    layout = "unknown layout" if checkpoint.layout == "unknown" else checkpoint.layout
    return f"{step}, {layout}{trainer}"


def remedy_words(remedy: Mapping[str, object]) -> str:
    """Return what a rule asks for as an order to a person, "" when it asks for nothing."""
    return "; ".join(
        _resume_words(wish)
        if verb == "resume" and isinstance(wish, Mapping)
        else _other(verb, wish)
        for verb, wish in remedy.items()
        if wish is not None
    )


def moment_words(moment: datetime, zone: tzinfo | None, *, date: bool = False) -> str:
    """Return a time as a clock shows it in ``zone``, the local one when None."""
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S}" if date else f"{local:%H:%M:%S}"


def _resume_words(wish: Mapping[str, object]) -> str:
    known = {"precision": _PRECISION, "optimizer": _OPTIMIZER}
    words = ["resume from the last good checkpoint"]
    words += [
        table.get(str(wish[key]), f"with {key} {wish[key]}")
        for key, table in known.items()
        if wish.get(key) is not None
    ]
    # `cause` tells the planner how to choose a precision; a person reads it in the message.
    words += [
        _settings_words(value) if key == "settings" else _other(f"with {key}", value)
        for key, value in wish.items()
        if key not in {*known, "cause"} and value is not None
    ]
    return " ".join(words[:2]) + "".join(f", {more}" for more in words[2:])


def _settings_words(wishes: object) -> str:
    """Return what settings are to become; a wish is a value, or how to change the one there is."""
    if not isinstance(wishes, Mapping):
        return _other("with settings", wishes)
    return "with " + ", ".join(f"{name} {_wish_words(wish)}" for name, wish in wishes.items())


def _wish_words(wish: object) -> str:
    match wish:
        case {"times": factor}:
            return f"times {factor}"
        case {"between": [low, high]}:
            return f"from {low} to {high}"
        case {"instead_of": value, "use": better}:
            return f"{json_text(better)} instead of {value}"
    return wish if isinstance(wish, str) else json_text(wish)


def _other(verb: str, wish: object) -> str:
    value = wish if isinstance(wish, str) else json_text(wish)
    return f"{verb.replace('_', ' ')} {value}"


def untold_remedy(finding: Finding) -> str:
    """Return the remedy in words, "" when the message tells it already.

    The message says it for this very case, the remedy in general.
    """
    return "" if TODO in finding.message else remedy_words(finding.remedy)
