"""What a public thread is here: where it stands, what its user met, and how it was rebuilt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

How = Literal["trained", "saved", "planted", "configured"]
"""How a thread was rebuilt.

trained: a real library trained and it failed by itself. saved: a real library's saving was cut
off, or given what breaks it. planted: the damage was done to a file that a real library wrote.
configured: the trainer's own configuration or command, before step 1.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thread. ``rules`` name what must be found, ``rebuilt`` says in a few words with what."""

    repository: str
    number: int
    happened: str
    how: How
    rebuilt: str
    rules: tuple[str, ...]
    kind: Literal["issues", "pull"] = "issues"

    @property
    def url(self) -> str:
        """The public page."""
        return f"https://github.com/{self.repository}/{self.kind}/{self.number}"

    @property
    def test(self) -> str:
        """The name of the one test that rebuilds it."""
        return "test_" + re.sub(r"\W+|_+", "_", f"{self.repository}_{self.number}".lower())


@dataclass(frozen=True, slots=True)
class Left:
    """A thread, or several of one kind, that is not rebuilt, and the reason."""

    references: str
    reason: str
