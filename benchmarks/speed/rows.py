"""A line of the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paired import Compared

HEAD = (
    "| what | ratio (processor time) | ratio (wall) | quartiles | goal | sentinel, s | other, s"
    " | said |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What was compared; ratios above 1 mean that the other took longer."""

    what: str
    found: Compared
    goal: str
    said: str = ""

    def text(self) -> str:
        found = self.found
        low, high = found.spread
        return (
            f"| {self.what} | {found.cpu_ratio:.2f} | {found.wall_ratio:.2f} | {low:.2f} to"
            f" {high:.2f} | {self.goal} | {found.first.cpu_s:.3f} | {found.other.cpu_s:.3f}"
            f" | {self.said} |"
        )
