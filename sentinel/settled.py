"""What of `sentinel.yaml` a verdict depends on, and what holds where there is no such file.

The file itself is read by `sentinel.config`, which needs pydantic and YAML: importing those takes
longer than judging a small checkpoint, so a scan without a file does without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sentinel.verdict import Severity

FILE_NAME = "sentinel.yaml"

FailOn = Literal["suspect", "faulty"]


class RuleWishes(Protocol):
    """What the user changed about the rules, see `sentinel.config.RuleSettings`."""

    @property
    def paths(self) -> Sequence[Path]:
        """Files and directories of rules of the user's own."""

    @property
    def off(self) -> Sequence[str]:
        """Ids of rules that are not asked."""

    @property
    def severity(self) -> Mapping[str, Severity]:
        """Another severity, by a rule's id."""

    @property
    def parameters(self) -> Mapping[str, Mapping[str, bool | int | float | str]]:
        """Other numbers, by a rule's id and a parameter's name."""

    @property
    def exclude(self) -> Mapping[str, Sequence[str]]:
        """Patterns of paths about which a rule is not asked, by its id."""


@dataclass(frozen=True)
class Settled:
    """The settings of a verdict; `sentinel.config.Config` has them too, and its defaults here."""

    settle_s: float = 2.0
    fail_on: FailOn = "faulty"
    baseline: Path | None = None
    rules: RuleWishes | None = None
