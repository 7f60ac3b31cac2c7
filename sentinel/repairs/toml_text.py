"""Writing TOML: tables of plain values, as `tomllib` reads them (https://toml.io/en/v1.0.0).

The standard library reads TOML and does not write it; a trainer's configuration is small, and
its comments are lost in any case.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(content: Mapping[str, object]) -> str:
    """Return a mapping as TOML: a table's own values first, then the tables in it."""
    return "\n".join(_table(content, ())).strip() + "\n"


def _table(content: Mapping[str, object], path: tuple[str, ...]) -> Iterator[str]:
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for key, value in content.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, table in inner.items():
        yield f"\n[{'.'.join(map(_key, (*path, key)))}]"
        yield from _table(table, (*path, key))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, str):
        # JSON's escapes are TOML's; DEL must be escaped here and need not be there.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    message = f"TOML has no {type(value).__name__}"
    raise TypeError(message)
