"""JSON files beside the tensors: bounded, and with every mistake as an InputError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

JSON_LIMIT_BYTES = 64 * 1024 * 1024

VALUE_LIMIT = 8_000_000
"""Values in one text, counted by their brackets and commas: in memory an empty list takes thirty
times its two bytes. A header at its own limit of 100 MB has fewer."""


def read_json_object(
    path: Path, *, limit_bytes: int = JSON_LIMIT_BYTES, unique: bool = False
) -> Mapping[str, object]:
    """Return the object a JSON file holds; bare NaN and Infinity are taken, as trainers write them.

    ``unique`` refuses an object with a key twice, of which readers take one or the other. Raises
    TruncatedError when the text ends too early, another InputError for everything else.
    """
    with open_regular(path) as (file, size_bytes):
        if size_bytes > limit_bytes:
            _refuse(path, f"is {size_bytes} bytes long, the limit for JSON is {limit_bytes}")
        raw = file.read(limit_bytes + 1)
    return parse_json_object(path, raw, unique=unique)


def parse_json_object(path: Path, raw: bytes, *, unique: bool = False) -> Mapping[str, object]:
    """Return the object in ``raw``, text of the file at ``path``; raises as `read_json_object`."""
    if has_too_many_values(raw):
        _refuse(path, f"holds more than {VALUE_LIMIT} values")
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique_object if unique else None)
    except json.JSONDecodeError as error:
        ends_early = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        if ends_early:
            raise TruncatedError(
                f"file '{path_text(path)}'",
                fact="its JSON ends too early",
                todo="the write was cut short, or is still going on",
            ) from None
        _refuse(path, f"is no JSON ({error.msg} in line {error.lineno})")
    except (ValueError, RecursionError) as error:
        _refuse(path, f"is no JSON ({str(error)[:200]})")
    if not isinstance(value, dict):
        _refuse(path, "holds no JSON object")
    return value


def has_too_many_values(raw: bytes) -> bool:
    """Tell whether a JSON text would take unreasonably more memory than it is long."""
    return len(raw) > VALUE_LIMIT and sum(map(raw.count, (b",", b"[", b"{"))) > VALUE_LIMIT


def unique_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return an object of JSON; raises ValueError when a key occurs twice in it."""
    found = dict(pairs)
    if len(found) != len(pairs):
        message = "a key occurs twice"
        raise ValueError(message)
    return found


def _refuse(path: Path, fact: str) -> NoReturn:
    raise InputError(f"file '{path_text(path)}'", fact=fact, todo="check what wrote it")
