"""One rule file: read, its shape checked by pydantic, its parts held against each other."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sentinel.rules.consistency import check_consistency
from sentinel.rules.mistakes import Origin
from sentinel.rules.rule import Rule
from sentinel.rules.schema import read_rule
from sentinel.rules.shape_errors import explain_shape
from sentinel.rules.yaml_lines import read_yaml


def read_rule_file(path: Path) -> tuple[Rule, Origin]:
    """Return the rule of a YAML file, and where its keys stand; raises RuleError for a mistake."""
    data, origin = read_yaml(path)
    if not isinstance(data, dict):
        raise origin.mistake(None, (), "is no mapping of keys", "begin it with `id:`")
    try:
        rule = read_rule(data)
    except ValidationError as error:
        raise explain_shape(error, data, origin) from error
    check_consistency(rule, origin)
    return rule, origin
