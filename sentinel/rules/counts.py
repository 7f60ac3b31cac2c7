"""How many rows are bad, and whether that is enough: three-valued, like SQL."""

from __future__ import annotations

from typing import Literal, NamedTuple

from sentinel.rules.rule import AtLeast


class Counts(NamedTuple):
    """The rows of a rule's source by the truth of `where` (in scope) and `when` (bad).

    The first three are in scope, the others (``maybe_``) may be: their `where` is NULL.
    """

    bad: int
    good: int
    unknown: int
    maybe_bad: int = 0
    maybe_good: int = 0
    maybe_unknown: int = 0

    @property
    def in_scope(self) -> int:
        """Return the rows known to be in scope."""
        return self.bad + self.good + self.unknown

    @property
    def total(self) -> int:
        """Return the rows that are or may be in scope."""
        return self.in_scope + self.maybe_bad + self.maybe_good + self.maybe_unknown

    @property
    def undecided(self) -> int:
        """Return the rows of which it is not known whether they are bad or in scope."""
        return self.unknown + self.maybe_bad + self.maybe_good + self.maybe_unknown

    def decide(self, match: Literal["any", "all"] | AtLeast) -> bool | None:
        """Tell whether enough rows are bad; None when unknown rows could turn the answer.

        Takes the smallest and the largest number of bad rows that the unknown ones allow.
        """
        could_be_bad = self.bad + self.unknown + self.maybe_bad + self.maybe_unknown
        if not could_be_bad:
            return False
        if match == "any":
            return True if self.bad else None
        wanted = match.at_least if isinstance(match, AtLeast) else 1.0
        if self.bad and self.bad >= wanted * (self.in_scope + self.maybe_good + self.maybe_unknown):
            return True
        most_in_scope = self.in_scope + self.maybe_bad + self.maybe_unknown
        return None if could_be_bad >= wanted * most_in_scope else False
