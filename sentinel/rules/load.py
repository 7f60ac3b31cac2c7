"""Loading rules: the bundled catalogue, the user's own files, and the user's overrides.

The SQL of bundled rules is checked by the tests and by `sentinel rules test`, that of the
user's own rules at every load: a scan does not pay for a database before it has read a tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from sentinel.config import RuleSettings
from sentinel.errors import ConfigError
from sentinel.rules.consistency import check_consistency
from sentinel.rules.files import PACKED, bundled_files, catalogue
from sentinel.rules.mistakes import Origin
from sentinel.rules.overrides import override
from sentinel.rules.schema import Rule
from sentinel.rules.shape_errors import explain_shape
from sentinel.rules.yaml_lines import read_yaml


def load_rules(
    paths: Sequence[Path] | None = None,
    overrides: RuleSettings | None = None,
    *,
    check_bundled: bool = False,
) -> tuple[Rule, ...]:
    """Return the bundled rules and the user's own, changed as the user wants them.

    The user's own are the files and directories ``paths`` and those of ``overrides``, which is
    the `rules` part of sentinel.yaml. Raises RuleError for a mistake in a rule file and
    ConfigError for one in the overrides or paths.
    """
    settings = overrides or RuleSettings()
    bundled = _bundled(with_lines=check_bundled)
    own = [_read_rule(path) for path in _own_files((*(paths or ()), *settings.paths))]
    _refuse_duplicates([*bundled, *own])
    unchecked = [*bundled, *own] if check_bundled else own
    if unchecked:
        # Only here, so that listing or loading the bundled rules needs no database.
        from sentinel.rules.sql_check import check_sql  # noqa: PLC0415

        check_sql(unchecked)
    return override([rule for rule, _ in (*bundled, *own)], settings)


def _bundled(*, with_lines: bool) -> list[tuple[Rule, Origin]]:
    """Read the catalogue: a wheel's from JSON, unless mistakes are to be told with their lines."""
    root = catalogue()
    packed = root / PACKED
    if with_lines or not packed.is_file():
        return [_read_rule(path) for path in bundled_files(root)]
    rules = json.loads(packed.read_text(encoding="utf-8"))
    return [(Rule.model_validate(rule), Origin(packed, {}, "")) for rule in rules]


def _read_rule(path: Path) -> tuple[Rule, Origin]:
    data, origin = read_yaml(path)
    if not isinstance(data, dict):
        raise origin.mistake(None, (), "is no mapping of keys", "begin it with `id:`")
    try:
        rule = Rule.model_validate(data)
    except ValidationError as error:
        raise explain_shape(error, data, origin) from error
    check_consistency(rule, origin)
    return rule, origin


def _refuse_duplicates(rules: Iterable[tuple[Rule, Origin]]) -> None:
    seen: dict[str, Origin] = {}
    for rule, origin in rules:
        if rule.id in seen:
            fact = f"the id is taken by '{seen[rule.id].path}'"
            todo = "give it another id; to change a bundled rule, override it in sentinel.yaml"
            raise origin.mistake(rule.id, ("id",), fact, todo)
        seen[rule.id] = origin


def _own_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix in {".yaml", ".yml"})
        elif path.exists():
            yield path
        else:
            raise ConfigError(
                f"rules '{path}'", fact="there is no such file or directory", todo="check the path"
            )
