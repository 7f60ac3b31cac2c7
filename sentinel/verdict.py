"""What sentinel says about a checkpoint, as values: findings and the verdict they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from sentinel.checkpoint import Part

Severity = Literal["critical", "unreadable", "warning", "info"]
Level = Literal["healthy", "suspect", "unreadable", "faulty"]
Safety = Literal["certain", "likely"]
Scope = Literal["content", "run"]

LEVEL_OF: Mapping[Severity, Level] = MappingProxyType(
    {"critical": "faulty", "unreadable": "unreadable", "warning": "suspect", "info": "healthy"}
)
LEVELS: tuple[Level, ...] = ("healthy", "suspect", "unreadable", "faulty")
"""From best to worst: a checkpoint's level is the worst of its findings'."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that fired on one checkpoint: fact, cause and remedy in one sentence.

    ``tensors`` holds the first names in the file's order (at most 20), ``tensor_count`` how
    many there are. ``parts`` names what of the checkpoint the finding makes unusable.
    """

    rule: str
    severity: Severity
    message: str
    scope: Scope = "content"
    safety: Safety = "certain"
    parts: tuple[Part, ...] = ("weights",)
    tensors: tuple[str, ...] = ()
    tensor_count: int = 0
    remedy: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """A rule that could not be asked, and why: never counted as passed."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of a checkpoint's findings, and which of its parts may still be loaded."""

    level: Level
    usable: tuple[Part, ...]
    findings: tuple[Finding, ...] = ()
    not_evaluated: tuple[NotEvaluated, ...] = ()

    @property
    def reason(self) -> str | None:
        """Return the sentence of the gravest finding, None when nothing was found."""
        worst = max(
            self.findings, key=lambda found: LEVELS.index(LEVEL_OF[found.severity]), default=None
        )
        return worst.message if worst else None


def worst_level(severities: Iterable[Severity]) -> Level:
    """Return the level of the gravest severity, `healthy` when there is none."""
    levels = (LEVEL_OF[severity] for severity in severities)
    return max(levels, key=LEVELS.index, default="healthy")
