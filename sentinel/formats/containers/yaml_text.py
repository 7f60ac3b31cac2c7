"""YAML from anyone: built from the parser's events, with bounds on size, depth and aliases.

An alias is a reference, so a few lines can stand for billions of values once somebody walks them
("billion laughs", https://en.wikipedia.org/wiki/Billion_laughs_attack). Each value built here
knows how many it stands for, and the whole may not stand for more than `MOST_VALUES`. Scalars
become what PyYAML's safe loader makes of them, as in the trainers; dates and other tags stay text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.formats.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

MOST_VALUES = 20_000
DEEPEST = 40
YAML_LIMIT_BYTES = 1024 * 1024

_PLAIN = frozenset({"null", "bool", "int", "float"})
_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"


@dataclass(frozen=True, slots=True)
class _Built:
    """A value, and how many values one meets when walking it."""

    value: object
    weight: int


def read_yaml_object(path: Path, *, limit_bytes: int = YAML_LIMIT_BYTES) -> Mapping[str, object]:
    """Return the mapping a YAML file holds; raises InputError for everything else."""
    with open_regular(path) as (file, size_bytes):
        if size_bytes > limit_bytes:
            _refuse(path, f"is {size_bytes} bytes long, the limit for YAML is {limit_bytes}")
        raw = file.read(limit_bytes + 1)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(path, "is no UTF-8 text")
    value = parse_yaml(path, text)
    if not isinstance(value, dict):
        _refuse(path, "holds no YAML mapping")
    return value


def parse_yaml(path: Path, text: str) -> object:
    """Return the first document in ``text``, which is that of the file at ``path``.

    Raises InputError when it is no YAML, nested deeper than `DEEPEST`, or stands for more than
    `MOST_VALUES` values.
    """
    try:
        return _Builder(path, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        _refuse(path, f"is no YAML ({problem}{line})")
    except RecursionError:
        _refuse(path, "is nested too deep for a configuration")


class _Builder:
    """Builds values out of events, counting as it goes."""

    def __init__(self, path: Path, events: Iterator[yaml.Event]) -> None:
        self._path = path
        self._events = events
        self._anchors: dict[str, _Built] = {}
        self._count = 0
        # Only to resolve and construct single scalars; types-PyYAML leaves `resolve` untyped.
        self._scalars: Any = yaml.SafeLoader("")

    def document(self) -> object:
        """Return the first document's value, None for an empty stream."""
        for event in self._events:
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                if isinstance(event, yaml.StreamEndEvent):
                    return None
                return self._build(event, DEEPEST).value
        return None

    def _build(self, event: yaml.Event, depth: int) -> _Built:
        if depth == 0:
            _refuse(self._path, f"is nested deeper than {DEEPEST} levels")
        self._count += 1
        if self._count > MOST_VALUES:
            self._refuse_size()
        if isinstance(event, yaml.AliasEvent):
            return self._meant(str(event.anchor))
        built = self._built(event, depth)
        if built.weight > MOST_VALUES:
            self._refuse_size()
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[str(anchor)] = built
        return built

    def _meant(self, alias: str) -> _Built:
        if alias not in self._anchors:
            _refuse(self._path, f"names '*{alias:.40}', which it does not define before")
        return self._anchors[alias]

    def _built(self, event: yaml.Event, depth: int) -> _Built:
        if isinstance(event, yaml.ScalarEvent):
            return _Built(self._scalar(event), 1)
        if isinstance(event, yaml.SequenceStartEvent):
            items = list(self._until(yaml.SequenceEndEvent, depth))
            return _Built([item.value for item in items], 1 + sum(item.weight for item in items))
        if not isinstance(event, yaml.MappingStartEvent):
            _refuse(self._path, "ends in the middle of a value")
        parts = list(self._until(yaml.MappingEndEvent, depth))
        pairs = list(zip(parts[::2], parts[1::2], strict=False))
        return _Built(_mapping(pairs), 1 + sum(part.weight for part in parts))

    def _until(self, end: type[yaml.Event], depth: int) -> Iterator[_Built]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield self._build(event, depth - 1)

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._scalars.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = tag.removeprefix(_TAG)
        if kind not in _PLAIN:
            return event.value
        node = yaml.ScalarNode(tag, event.value)
        try:
            value: object = self._scalars.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            # `!!int x` or a number with more digits than Python turns into one.
            return event.value
        return value

    def _refuse_size(self) -> NoReturn:
        _refuse(self._path, f"stands for more than {MOST_VALUES} values, which no training needs")


def _mapping(pairs: list[tuple[_Built, _Built]]) -> dict[str, object]:
    """Return a mapping by text; what `<<` merges in gives way to what is there itself."""
    merged: dict[str, object] = {}
    own: dict[str, object] = {}
    for key, value in pairs:
        if key.value == _MERGE:
            sources = value.value if isinstance(value.value, list) else [value.value]
            for source in reversed(sources):
                merged |= source if isinstance(source, dict) else {}
        else:
            own[_key(key.value)] = value.value
    return {**merged, **own}


def _key(value: object) -> str:
    """Return a key as text: `on:` and `1:` are keys of trainers too."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    return str(value) if isinstance(value, str | int | float) else ""


def _refuse(path: Path, fact: str) -> NoReturn:
    raise InputError(f"file '{path_text(path)}'", fact=fact, todo="check what wrote it")
