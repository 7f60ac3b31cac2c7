"""The three-valued count against trying every value the unknown rows could have."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from sentinel.rules.counts import Counts
from sentinel.rules.rule import AtLeast

TRUTH = st.sampled_from([True, False, None])
MATCH = st.sampled_from(["any", "all", AtLeast(at_least=0.25), AtLeast(at_least=0.5)])


def decide_known(rows, match) -> bool:
    """Decide for rows whose scope and badness are both known."""
    in_scope = [bad for scope, bad in rows if scope]
    hits = sum(in_scope)
    if match == "any" or not hits:
        return hits > 0
    return hits >= (match.at_least if isinstance(match, AtLeast) else 1) * len(in_scope)


def possible(value):
    return (True, False) if value is None else (value,)


@given(st.lists(st.tuples(TRUTH, TRUTH), max_size=5), MATCH)
def test_decided_exactly_when_unknown_rows_can_not_turn_it(rows, match) -> None:
    """True or False when all completions agree, None when they do not."""
    choices = [list(product(possible(scope), possible(bad))) for scope, bad in rows]
    outcomes = {decide_known(completion, match) for completion in product(*choices)}

    wanted = outcomes.pop() if len(outcomes) == 1 else None
    assert wanted == counts_of(rows).decide(match)


def counts_of(rows) -> Counts:
    def count(scope, bad):
        return sum(1 for row in rows if row[0] is scope and row[1] is bad)

    return Counts(*(count(scope, bad) for scope in (True, None) for bad in (True, False, None)))
