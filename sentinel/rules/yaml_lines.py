"""YAML with line numbers: plain data, and the line of every key in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from sentinel.errors import RuleError
from sentinel.rules.mistakes import KeyPath, Origin

# The parser of libyaml is ten times faster and comes with PyYAML's wheels.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FLOAT_TAG = "tag:yaml.org,2002:float"
# YAML 1.1 wants a dot in a float, so PyYAML reads the threshold 3e-8 as text.
_BARE_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
_DEEPEST = 20  # an alias can name the node it stands in


def read_yaml(path: Path) -> tuple[object, Origin]:
    """Return the data of a YAML file and where its keys stand.

    Raises RuleError for a file that cannot be read, is no YAML, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fact = f"cannot be read: {error}"
        raise RuleError("rule file", where=f"'{path}'", fact=fact) from error
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from error
    if node is None:
        raise RuleError("rule file", where=f"'{path}'", fact="is empty", todo="write a rule in it")
    origin = Origin(path, _lines_of(node, path, text), text)
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True), origin
    except yaml.YAMLError as error:
        raise _syntax_error(path, error) from error


def _lines_of(node: yaml.Node, path: Path, text: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    for key, line in _walk(node, ()):
        here = Origin(path, {key: line}, text)
        if key in lines:
            raise here.mistake(None, key, f"the key '{key[-1]}' stands twice", "keep one")
        if len(key) > _DEEPEST:
            raise here.mistake(None, key, "is nested too deep", "write it without the alias")
        lines[key] = line
    return lines


def _walk(node: yaml.Node, at: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*at, str(key.value))
            yield below, key.start_mark.line + 1
            yield from _walk(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _walk(item, (*at, index))
    elif isinstance(node, yaml.ScalarNode) and _is_plain_exponent(node):
        node.tag = _FLOAT_TAG


def _is_plain_exponent(node: yaml.ScalarNode) -> bool:
    return not node.style and bool(_BARE_EXPONENT.fullmatch(node.value))


def _syntax_error(path: Path, error: yaml.YAMLError) -> RuleError:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    problem = getattr(error, "problem", None) or "is no YAML"
    return RuleError("rule file", where=f"'{path}:{line}'", fact=str(problem), todo="mend the YAML")
