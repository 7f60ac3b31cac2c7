"""What came of acting on a trainer that sentinel did not start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class HookResult:
    """Whether it worked, in words after the hook's own, and what else is kept of it."""

    worked: bool
    words: str
    detail: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def good(cls, words: str, **detail: object) -> Self:
        """Return what came of a hook that worked."""
        return cls(worked=True, words=words, detail=detail)

    @classmethod
    def bad(cls, words: str, **detail: object) -> Self:
        """Return what came of a hook that failed."""
        return cls(worked=False, words=words, detail=detail)


class Doing(Protocol):
    """Something under way that is looked at until it is over."""

    def poll(self) -> HookResult | None:
        """Return what came of it, None while it goes on; later calls return the same."""
