"""The checkpoints before one in its lineage, as far as rules look back at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from sentinel.rules.tables import PAST
from sentinel.verdict import Level

if TYPE_CHECKING:
    from collections.abc import Iterable

DEPTH = 16
"""How many checkpoints back the tables `past_...` reach: what is kept costs memory in a daemon
that watches many runs, and is filled into a database anew for every verdict."""


@dataclass(frozen=True, slots=True)
class Before:
    """One earlier checkpoint: its tables, and the rules with `for` whose predicate held there."""

    tables: Mapping[str, pa.Table]
    holding: frozenset[str] = frozenset()


Past = tuple[Before, ...]
"""Newest first, at most `DEPTH`."""


def with_verdict(checkpoint: pa.Table, level: Level, *, weights_usable: bool) -> pa.Table:
    """Return the one row of a checkpoint with what was said of it, as `past_checkpoint` has it."""
    said = checkpoint.append_column("verdict", pa.array([level], pa.string()))
    return said.append_column("weights_usable", pa.array([weights_usable], pa.bool_()))


def grown(newest: Before, past: Past) -> Past:
    """Return a past with one more checkpoint at its near end."""
    return (newest, *past[: DEPTH - 1])


def held_in_a_row(rule: str, past: Past) -> int:
    """Return in how many checkpoints, back from the newest without a gap, a rule held."""
    count = 0
    for before in past:
        if rule not in before.holding:
            break
        count += 1
    return count


def history_tables(past: Past, named: Iterable[str]) -> dict[str, pa.Table]:
    """Return `prev_...` tables, and those `past_...` tables that somebody names.

    A table of the past has the column ``back``: 1 for the checkpoint before, 2 for the one
    before that.
    """
    if not past:
        return {}
    found = {f"prev_{name}": table for name, table in past[0].tables.items() if name in PAST}
    for name in PAST:
        known = [(back, one.tables[name]) for back, one in enumerate(past, 1) if name in one.tables]
        if known and f"past_{name}" in named:
            found[f"past_{name}"] = _stacked(known)
    return found


def _stacked(tables: Sequence[tuple[int, pa.Table]]) -> pa.Table:
    """Return tables under one another; a setting that only some have is NULL in the others."""
    numbered = [
        table.append_column("back", pa.array([back] * table.num_rows, pa.int64()))
        for back, table in tables
    ]
    return pa.concat_tables(numbered, promote_options="permissive")
