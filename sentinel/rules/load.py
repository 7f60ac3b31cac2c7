"""Loading rules: the bundled catalogue, the user's own files, and the user's overrides.

The SQL of bundled rules is checked by the tests and by `sentinel rules test`, that of the
user's own rules at every load: a scan does not pay for a database before it has read a tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sentinel.errors import ConfigError
from sentinel.rules.files import PACKED, bundled_files, catalogue
from sentinel.rules.mistakes import Origin
from sentinel.rules.overrides import override
from sentinel.rules.rule import Rule, rule_of
from sentinel.settled import RuleWishes


def load_rules(
    paths: Sequence[Path] | None = None,
    overrides: RuleWishes | None = None,
    *,
    check_bundled: bool = False,
) -> tuple[Rule, ...]:
    """Return the bundled rules and the user's own, changed as the user wants them.

    The user's own are the files and directories ``paths`` and those of ``overrides``, which is
    the `rules` part of sentinel.yaml. Raises RuleError for a mistake in a rule file and
    ConfigError for one in the overrides or paths.
    """
    bundled = _bundled(with_lines=check_bundled)
    own = _read_files(_own_files((*(paths or ()), *(overrides.paths if overrides else ()))))
    _refuse_duplicates([*bundled, *own])
    unchecked = [*bundled, *own] if check_bundled else own
    if unchecked:
        # Only here, so that listing or loading the bundled rules needs no database.
        from sentinel.rules.sql_check import check_sql  # noqa: PLC0415

        check_sql(unchecked)
    rules = [rule for rule, _ in (*bundled, *own)]
    return override(rules, overrides) if overrides else tuple(rules)


def _bundled(*, with_lines: bool) -> list[tuple[Rule, Origin]]:
    """Read the catalogue: a wheel's from JSON, unless mistakes are to be told with their lines."""
    root = catalogue()
    packed = root / PACKED
    if with_lines or not packed.is_file():
        return _read_files(bundled_files(root))
    rules = json.loads(packed.read_text(encoding="utf-8"))
    return [(rule_of(rule), Origin(packed, {}, "")) for rule in rules]


def _read_files(paths: Iterable[Path]) -> list[tuple[Rule, Origin]]:
    waiting = list(paths)
    if not waiting:
        return []
    # Only here: a wheel's catalogue needs neither YAML nor pydantic.
    from sentinel.rules.rule_file import read_rule_file  # noqa: PLC0415

    return [read_rule_file(path) for path in waiting]


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
