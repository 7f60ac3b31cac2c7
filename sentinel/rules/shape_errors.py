"""What pydantic says of a rule file's shape, said in the words of the house."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.errors import RuleError
from sentinel.rules.mistakes import KeyPath, Origin, did_you_mean
from sentinel.rules.schema import AtLeast, Example, Page, Remedy, Resume, Rule, Softer

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MODEL_AT: Mapping[tuple[str, ...], type[BaseModel]] = MappingProxyType(
    {
        (): Rule,
        ("page",): Page,
        ("match",): AtLeast,
        ("softer",): Softer,
        ("remedy",): Remedy,
        ("remedy", "resume"): Resume,
        ("examples",): Example,
    }
)


def explain_shape(
    error: ValidationError, data: Mapping[object, object], origin: Origin
) -> RuleError:
    """Return the first mistake pydantic found, with its line and the nearest name."""
    found = error.errors(include_url=False)
    # A misspelt key comes before the missing one it was meant to be.
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    # Pydantic puts the member of a union it tried into the path; the file has no such key.
    key: KeyPath = tuple(part for part in first["loc"] if part not in _UNION_MEMBERS)
    named = data.get("id")
    rule_id = named if isinstance(named, str) else None
    name = ".".join(str(part) for part in key)
    kind = first["type"]
    if kind == "extra_forbidden":
        model = _MODEL_AT.get(tuple(str(part) for part in key[:-1] if isinstance(part, str)), Rule)
        fact = f"there is no key '{key[-1]}'" + (f" in '{_parent(key)}'" if len(key) > 1 else "")
        return origin.mistake(rule_id, key, fact, did_you_mean(str(key[-1]), model.model_fields))
    if kind == "missing":
        return origin.mistake(rule_id, key[:-1], f"the key '{name}' is missing", "add it")
    if kind == "literal_error":
        given = first["input"]
        choices = first["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        fact = f"'{name}' is {given!r}"
        return origin.mistake(rule_id, key, fact, did_you_mean(str(given), choices))
    wanted = first["msg"][0].lower() + first["msg"][1:]
    return origin.mistake(rule_id, key, f"'{name}' is {first['input']!r}", f"{wanted}")


_UNION_MEMBERS = frozenset(
    {"AtLeast", "Between", "Times", "Instead", "literal['any','all']"}
    | {"bool", "int", "float", "str"}
)


def _parent(key: KeyPath) -> str:
    return ".".join(str(part) for part in key[:-1])
