"""Every key of a recipe as a Markdown page, from the sections themselves.

`docs/generate.py` writes it to `docs/trainer-keys.md`; a test holds that it is up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from .recipe import Recipe

PAGE = "trainer-keys.md"

_HEAD = """\
# Every key of a sentinel-train recipe

<!-- Written by `python docs/generate.py` from `trainer/sections/`. -->

[trainer.md](trainer.md) says how the trainer is used.
A key that is not here is refused, with the nearest name; so is a value that would have no effect.
`--set SECTION.KEY=VALUE` puts a value over the recipe's.
"""
_FAILURES_HEAD = """\
## Recipes of failures

Each fails by nature, as users' trainings do: a precision, a rate or an optimizer's setting, and
nothing planted; each trains in under a minute on a processor.
They need a base that was trained before, such as `python -m sentinel_trainer.tiny_base base`
makes, and lie in `recipes/failures/` of the package.
"""
_TYPES = {str: "text", int: "count", float: "number", bool: "switch", dict: "mapping"}


def render() -> str:
    """Return the whole page."""
    parts = [_HEAD, *_section("The recipe itself", "", Recipe)]
    parts += [_FAILURES_HEAD, *_failures()]
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, prefix: str, section: type[BaseModel]) -> Iterator[str]:
    """Yield a section's table, then those of the sections in it."""
    rows, inner = [], []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner.append((f"{prefix}{name}", kind))
        else:
            rows.append(
                (f"`{prefix}{name}`", _kind(kind), _default(field), field.description or "")
            )
    yield f"## {title}\n"
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""
    for name, kind in inner:
        yield from _section(name, f"{name}.", kind)


def _kind(kind: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in {UnionType, Union}:
        return " or ".join(_kind(each) for each in arguments if each is not NoneType)
    if origin is tuple:
        return "list of text"
    return _TYPES[origin or kind]


def _default(field: Any) -> str:
    if field.is_required():
        return "*needed*"
    value = field.default
    if value is PydanticUndefined:
        value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}):
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _failures() -> Iterator[str]:
    """Yield a table of the failing recipes: what happens, by which rule it is named, the remedy."""
    directory = files(__package__) / "recipes" / "failures"
    index = yaml.safe_load((directory / "index.yaml").read_text(encoding="utf-8"))
    yield "| recipe | what happens | named by | healthy with |"
    yield "|---|---|---|---|"
    for name, entry in index.items():
        text = (directory / f"{name}.yaml").read_text(encoding="utf-8")
        named = ", ".join(f"[`{rule}`](rules.md#{rule})" for rule in entry["named"])
        if "then" in entry:
            healthy = f"a second start without `{' '.join(entry['then']['harm'])}`"
        else:
            healthy = ", ".join(f"`{option}`" for option in entry["healthy"])
        yield f"| `{name}` | {_story(text)} | {named} | {healthy} |"
    yield ""


def _story(text: str) -> str:
    """Return the first paragraph of a recipe's comment, up to its remedy."""
    lines = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words or words.startswith(("Healthy:", "Then:")):
            break
        lines.append(words)
    return " ".join(lines)
