"""Turning what was read from files into what JSON and Parquet can hold.

File names need not be text, tensor names come from untrusted headers, and JSON knows no NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath


def valid_text(text: str) -> str:
    r"""Escape with backslashes what is no Unicode text.

    Bytes of a file name that could not be decoded become ``\xff``, other lone surrogates
    ``\ud800`` (https://peps.python.org/pep-0383/ tells how Python carries the former).
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def path_text(path: PurePath) -> str:
    """Return a path as valid text, its undecodable bytes backslash-escaped."""
    return valid_text(str(path))


def plain(value: object) -> object:
    """Return a value as JSON can say it: NaN and infinities as "nan", "inf" and "-inf".

    Mappings become dicts with text keys, sequences become lists, anything JSON does not know
    becomes its text.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {valid_text(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    return valid_text(str(value))


def json_text(value: object) -> str:
    """Return a value as one line of JSON, keys sorted, so that equal values are equal text."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, sort_keys=True)
