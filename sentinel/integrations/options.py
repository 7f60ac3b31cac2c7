"""What every callback may be given, under the same names, and the mistakes one can make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypedDict

from sentinel.errors import ConfigError
from sentinel.rules.rule import Rule

Policy = Literal["stop", "report"]
OnStop = Literal["exit", "return"]


class Options(TypedDict, total=False):
    """What a `Guard` may be given, under the same names by every callback."""

    policy: Policy | None
    act_on: str | Iterable[str] | None
    base: str | Path | None
    rules: str | Path | Sequence[str | Path]
    state: str | Path | None
    log: str | Path | None
    config: str | Path | None
    on_stop: OnStop


def paths_of(rules: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Return the rule files and directories, of which one may be given by itself."""
    return tuple(map(Path, (rules,) if isinstance(rules, str | Path) else rules))


def refuse_unknown(name: str, value: str | None, known: Sequence[str]) -> None:
    """Raise ConfigError for a word that is none of those an option may be."""
    if value is not None and value not in known:
        words = " or ".join(f"'{word}'" for word in known)
        raise ConfigError(name, where=f"'{value}'", fact="is not known", todo=f"it is {words}")


def rule_ids(names: str | Iterable[str], rules: Sequence[Rule]) -> frozenset[str]:
    """Return the ids as a set; raises ConfigError for one that no rule has."""
    wanted = frozenset((names,) if isinstance(names, str) else names)
    known = [rule.id for rule in rules]
    for name in sorted(wanted.difference(known)):
        near = get_close_matches(name, known, n=1)
        todo = f"did you mean '{near[0]}'?" if near else "`sentinel rules list` names them"
        raise ConfigError("rule in act_on", where=f"'{name}'", fact="is not known", todo=todo)
    return wanted
