"""How large the values are, as rows of the picture beside the formats' limits."""

from __future__ import annotations

from collections.abc import Sequence

from sentinel.health.modules import ValueRange
from sentinel.reports.charts.ranges import RangeRow
from sentinel.reports.words import shown

MOST_ROWS = 24
"""Roles and dtypes that the picture shows."""

_WORTH_SAYING = 0.0005


def range_rows(ranges: Sequence[ValueRange]) -> list[RangeRow]:
    """Return one row a role, dtype and attempt, the newest attempts when there are too many."""
    attempts = {one.attempt for one in ranges}
    return [_row(one, many=len(attempts) > 1) for one in ranges[-MOST_ROWS:]]


def note_of(one: ValueRange) -> str:
    """Return what is odd about some values in a few words, "" when nothing is."""
    if one.zero_share == 1:
        return "all exactly zero"
    notes = [
        f"{share:.2g} % {word}"
        for share, word in (
            (100 * one.not_finite_share, "not finite"),
            (100 * one.subnormal_share, "subnormal"),
        )
        if share > 100 * _WORTH_SAYING
    ]
    return ", ".join(notes)


def _row(one: ValueRange, *, many: bool) -> RangeRow:
    label = (f"{one.attempt}: " if many else "") + shown(f"{one.role} {one.dtype}")
    note = note_of(one)
    if one.low_rms is None or one.high_rms is None or one.largest is None:
        return RangeRow(label, None, None, one.largest, f"{label}: {note or 'unknown'}", note)
    said = f"{label}: usually {one.low_rms:.2g} to {one.high_rms:.2g}, largest {one.largest:.3g}"
    return RangeRow(label, one.low_rms, one.high_rms, one.largest, said, note)
