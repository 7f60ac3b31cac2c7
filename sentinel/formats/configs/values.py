"""Values of a configuration as settings: text that is a number becomes one, by the setting's name.

Trainers write `1e-4` where YAML sees text, `"true"` where a switch is meant, and `None` where a
command line has no value; each is taken as its trainer's own parser takes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.scalars import as_count, as_number, as_text
from sentinel.formats.setting_names import SETTING_NAMES
from sentinel.formats.settings import Setting, flatten
from sentinel.formats.training_arguments import options_of

_TRUTHS: Mapping[str, bool] = MappingProxyType(
    {"true": True, "yes": True, "y": True, "1": True, "t": True}
    | {"false": False, "no": False, "n": False, "0": False, "f": False}
)
_PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"fp32": "fp32", "float32": "fp32", "float": "fp32", "f32": "fp32"}
    | {"fp16": "fp16", "float16": "fp16", "half": "fp16", "f16": "fp16"}
    | {"bf16": "bf16", "bfloat16": "bf16", "fp8": "fp8", "no": "no"}
)
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_ABSENT = frozenset({"", "none", "null"})


def take(fields: Mapping[str, object], keys: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings that some fields tell; ``keys`` gives each field's setting."""
    found: dict[str, Setting] = {}
    for key, name in keys.items():
        value = typed(name, fields.get(key))
        if value is not None:
            found.setdefault(name, value)
    return found


def typed(name: str, value: object) -> Setting | None:
    """Return a value as the setting ``name`` holds it, None when it is none of that kind."""
    kind = SETTING_NAMES[name].kind
    if kind == "number":
        return number_of(value)
    if kind == "count":
        number = number_of(value)
        return as_count(int(number)) if number is not None and number.is_integer() else None
    return truth_of(value) if kind == "switch" else text_of(value)


def number_of(value: object) -> float | None:
    """Return a finite number, also one spelled as text; None for anything else."""
    if isinstance(value, str) and len(value) < 50 and _NUMBER.fullmatch(value.strip()):  # noqa: PLR2004 - longer ones are no settings
        value = float(value)
    number = as_number(value)
    return number if number is not None and math.isfinite(number) else None


def truth_of(value: object) -> bool | None:
    """Return a switch, also one spelled as text or number; None for anything else."""
    if isinstance(value, bool):
        return value
    return _TRUTHS.get(str(value).lower()) if isinstance(value, str | int) else None


def text_of(value: object) -> str | None:
    """Return text, lists as JSON; None for nothing and for what is spelled so."""
    if isinstance(value, list | dict):
        found = flatten("x", value if isinstance(value, list) else [value]).get("x")
        return str(found) if value and found is not None else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = as_text(str(value))
    return None if text is None or text.strip().lower() in _ABSENT else text.strip()


def precision_of_text(value: object) -> str | None:
    """Return fp32, fp16, bf16, fp8 or "no" for any spelling of them."""
    text = text_of(value)
    return _PRECISIONS.get(text.lower().rpartition(".")[2]) if text else None


def arguments_of(value: object) -> dict[str, Setting]:
    """Return an optimizer's arguments as `optimizer.args.*`.

    Takes a mapping, a list of `key=value`, or text such as ``eps=1e-6,betas=(0.9,0.99)``.
    """
    if isinstance(value, dict):
        given = value
    else:
        texts = value if isinstance(value, list) else [value]
        given = {name: inner for text in texts for name, inner in options_of(text).items()}
    spelled = {
        key: _plain(inner) if isinstance(inner, str) else inner for key, inner in given.items()
    }
    return flatten("optimizer.args", spelled)


def _plain(text: str) -> object:
    """Return text as the number or switch that it spells, None for nothing."""
    if text.lower() in _ABSENT:
        return None
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    number = number_of(text)
    return text.strip("'\"") if number is None else number
