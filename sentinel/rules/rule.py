"""A rule as a value: what the engine asks and what a reader is told.

The shape of its file, checked by pydantic, is `sentinel.rules.schema`: importing pydantic takes
longer than asking all rules about a small checkpoint. A wheel's catalogue is taken as it stands:
the tests check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sentinel.verdict import Safety, Scope, Severity

Parameter = bool | int | float | str
Cell = bool | int | float | str | list[int] | None


@dataclass(frozen=True, slots=True)
class Page:
    """What a reader is told about a rule."""

    what: str
    why: str
    fix: str
    sources: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Fire when this share of the rows in scope is bad."""

    at_least: float


@dataclass(frozen=True, slots=True)
class Softer:
    """A milder severity for hits that are less sure."""

    when: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Example:
    """Tables with sparse rows (absent columns are NULL) and what the rule must say of them."""

    name: str
    tables: dict[str, list[dict[str, Cell]]]
    fires: bool
    held: int = 0
    severity: Severity | None = None
    message_contains: str | None = None
    not_evaluated: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: a predicate over one table (or a query), and what follows when it is true.

    What each field means stands beside the key of the same name in `sentinel.rules.schema`;
    ``consecutive`` is the key `for`, ``remedy`` holds only what the file says.
    """

    id: str
    title: str
    scope: Scope
    severity: Severity
    safety: Safety
    since: str
    page: Page
    message: str
    examples: list[Example]
    table: str | None = None
    query: str | None = None
    optional: list[str] = field(default_factory=list)
    where: str = "true"
    when: str = "true"
    match: Literal["any", "all"] | AtLeast = "any"
    consecutive: int = 1
    after_updates: int = 0
    unknown_updates: Severity | None = None
    exclude: list[str] = field(default_factory=list)
    names: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    softer: Softer | None = None
    remedy: Mapping[str, object] = field(default_factory=dict)
    confirm: bool = False


def rule_of(data: Mapping[str, Any]) -> Rule:
    """Return the rule of a file's data, whose shape has been checked before."""
    told = {"consecutive" if key == "for" else key: value for key, value in data.items()}
    told["page"] = Page(**told["page"])
    told["examples"] = [Example(**example) for example in told["examples"]]
    if isinstance(told.get("match"), dict):
        told["match"] = AtLeast(**told["match"])
    if told.get("softer") is not None:
        told["softer"] = Softer(**told["softer"])
    return Rule(**told)
