"""What it is for a rule to have been seen: on which real file, and on which healthy twins not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["trained", "saved", "planted", "configured"]
"""How the file came about that a rule fires on; the words are those of `threads.thread`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One rule: what it fires on, and what comes near that and stays quiet, in a few words."""

    rule: str
    how: How
    fires: str
    quiet: str

    @property
    def test(self) -> str:
        """The name of the one test that shows it."""
        return "test_" + self.rule.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Unseen:
    """A rule that no real file can be made to show here, and the reason."""

    rule: str
    reason: str
