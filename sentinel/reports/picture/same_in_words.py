"""What the charts show, as tables: for screen readers, for copying, and for those who doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.health.modules import ModuleNumbers, ValueRange
from sentinel.health.rows import CheckpointRow
from sentinel.reports.charts.loss import LossPoint
from sentinel.reports.picture.heat import Heat, Reading, short_name
from sentinel.reports.picture.thinning import thinned
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.verdicts import place_words
from sentinel.reports.words import shown

MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of texts that are safe to show; ``note`` says what is left out."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def strip_table(run: Told) -> TextTable:
    """Return the checkpoints, at most `MOST_ROWS` of them, the gravest never left out first."""
    rows = thinned(run.rows, MOST_ROWS)
    note = ""
    if len(rows) < len(run.rows):
        note = f"{len(rows)} of {len(run.rows):,} checkpoints, of each stretch the gravest."
    return TextTable(
        ("attempt", "step", "verdict", "done with it", "reason"),
        tuple(
            (
                str(row.attempt),
                "unknown" if row.step is None else str(row.step),
                row.verdict,
                _done(run, row),
                shown(row.reason or ""),
            )
            for row in rows
        ),
        note,
    )


def loss_table(points: Sequence[LossPoint]) -> TextTable:
    """Return the losses by attempt and step, evenly thinned to `MOST_ROWS`."""
    every = -(-len(points) // MOST_ROWS) or 1
    kept = points[::every]
    note = f"Every {every}th of {len(points)} values." if every > 1 else ""
    return TextTable(
        ("attempt", "step", "loss"),
        tuple(
            (str(p.attempt), str(p.step), "not finite" if p.loss is None else f"{p.loss:.4g}")
            for p in kept
        ),
        note,
    )


def heat_table(heat: Heat, reading: Reading, rows: Sequence[CheckpointRow]) -> TextTable:
    """Return of each module the first number, the largest with its place, and the last."""
    lines = []
    for module in heat.modules:
        known: list[tuple[float, CheckpointRow]] = []
        broken = 0
        for row in rows:
            one = heat.numbers.get((row.checkpoint_id, module))
            value = reading.number(one) if one is not None else None
            if value is not None:
                known.append((value, row))
            broken += _is_broken(one)
        if not known:
            lines.append((short_name(module, heat), "unknown", "", "unknown", str(broken)))
            continue
        largest, where = max(known, key=lambda pair: pair[0])
        lines.append(
            (
                short_name(module, heat),
                reading.words(known[0][0]),
                f"{reading.words(largest)} (attempt {where.attempt}, {place_words(where)})",
                reading.words(known[-1][0]),
                str(broken),
            )
        )
    names = ("module", "first", "largest", "last", "checkpoints not finite")
    return TextTable(names, tuple(lines))


def range_table(ranges: Sequence[ValueRange]) -> TextTable:
    """Return the magnitudes as numbers."""
    names = ("attempt", "role", "dtype", "usual", "largest", "zero", "subnormal", "not finite")
    return TextTable(
        names,
        tuple(
            (
                str(one.attempt),
                shown(one.role),
                shown(one.dtype),
                "none"
                if one.low_rms is None or one.high_rms is None
                else f"{one.low_rms:.2g} to {one.high_rms:.2g}",
                "none" if one.largest is None else f"{one.largest:.4g}",
                *(
                    f"{100 * share:.3g} %"
                    for share in (one.zero_share, one.subnormal_share, one.not_finite_share)
                ),
            )
            for one in ranges[-MOST_ROWS:]
        ),
    )


def _done(run: Told, row: CheckpointRow) -> str:
    words = (("quarantined", run.moved), ("pinned", run.pinned))
    return ", ".join(word for word, ids in words if row.checkpoint_id in ids)


def _is_broken(one: ModuleNumbers | None) -> bool:
    return one is not None and bool(one.not_finite)
