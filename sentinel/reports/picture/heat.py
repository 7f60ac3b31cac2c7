"""Numbers of the modules over the checkpoints, worst modules first, as rows of heat maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from sentinel.health.modules import ModuleNumbers
from sentinel.health.rows import CheckpointRow
from sentinel.reports.charts.heatmap import HeatCell, HeatColumn
from sentinel.reports.picture.verdicts import place_words
from sentinel.reports.words import shown

MOST_ROWS = 40
"""Modules that a map shows."""

MOST_COLUMNS, MOST_COLUMNS_NARROW = 60, 16
"""Checkpoints that a map shows, for a desk and for a telephone."""


_TIMES_FROM = 1000
_PLAIN = (1e-4, 1e7)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to look at a module: its id and title, and what a number means.

    ``number`` is None where it is not known; ``words`` says one in full, ``short`` beside others.
    """

    id: str
    title: str
    explains: str
    number: Callable[[ModuleNumbers], float | None]
    words: Callable[[float], str]
    short: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Heat:
    """The modules of some checkpoints: by checkpoint and module, worst modules first."""

    numbers: Mapping[tuple[str, str], ModuleNumbers]
    modules: tuple[str, ...]
    module_count: int
    prefix: str
    readings: tuple[Reading, ...]
    silent: tuple[str, ...]


def heat_of(numbers: Sequence[ModuleNumbers], order: Sequence[str]) -> Heat:
    """Return what is to be drawn of some checkpoints, whose ids ``order`` holds oldest first.

    ``silent`` says of what there is nothing to draw.
    """
    by_place = {(one.checkpoint_id, one.module): one for one in numbers}
    modules = list(dict.fromkeys(one.module for one in numbers))
    size = _size_reading(numbers)
    modules.sort(key=lambda module: _badness(module, by_place, order, size))
    shares = [_ZERO, _SAME, _BROKEN]
    drawn = [share for share in shares if any(share.number(one) for one in numbers)]
    silent = [_NOTHING[share.id] for share in shares if share not in drawn]
    return Heat(
        by_place,
        tuple(modules[:MOST_ROWS]),
        len(modules),
        _prefix(modules),
        (size, *drawn),
        tuple(silent) if numbers else (),
    )


def heat_columns(rows: Sequence[CheckpointRow]) -> list[HeatColumn]:
    """Return one column a checkpoint, labelled by its step."""
    return [
        HeatColumn(row.attempt, f"#{row.seq}" if row.step is None else str(row.step))
        for row in rows
    ]


def heat_cells(heat: Heat, reading: Reading, rows: Sequence[CheckpointRow]) -> list[HeatCell]:
    """Return the cells of one reading; a module that a checkpoint does not have has none."""
    cells = []
    for column, row in enumerate(rows):
        place = f"attempt {row.attempt}, {place_words(row)}"
        for module in heat.modules:
            one = heat.numbers.get((row.checkpoint_id, module))
            if one is None:
                continue
            value, name = reading.number(one), short_name(module, heat)
            broken = bool(one.not_finite) and value is None
            said = "not finite" if broken else "unknown" if value is None else reading.words(value)
            cells.append(HeatCell(name, column, value, f"{name}, {place}: {said}", broken))
    return cells


def short_name(module: str, heat: Heat) -> str:
    """Return a module's name without what all names begin with, safe to show."""
    return shown(module.removeprefix(heat.prefix))


def _size_reading(numbers: Sequence[ModuleNumbers]) -> Reading:
    """Return how the size of modules is read: the best that the log knows."""
    if any(one.norm is not None and one.base_norm for one in numbers):
        return Reading(
            "size",
            "Change, relative to the base",
            "Frobenius norm of scale·B·A in per cent of the norm of the weight under it.",
            lambda one: (
                one.norm / one.base_norm * 100 if one.norm is not None and one.base_norm else None
            ),
            lambda value: f"{_relative(value)} the base",
            lambda value: _relative(value).removesuffix(" of"),
        )
    if any(one.norm is not None for one in numbers):
        return Reading(
            "size",
            "Size of the change",
            "Frobenius norm of scale·B·A, what the module adds to the weight under it, whose own"
            " size the log does not know.",
            lambda one: one.norm,
            lambda value: f"norm {_number(value)}",
            _number,
        )
    return Reading(
        "size",
        "Size of the up matrices",
        "Frobenius norm of lora_B (lora_up). The log holds no norm of scale·B·A: it was written by"
        " an earlier version, or the family has none.",
        lambda one: one.up_l2,
        lambda value: f"norm {_number(value)}",
        _number,
    )


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _percent(value: float) -> str:
    return f"{_number(value)} %"


def _relative(per_cent: float) -> str:
    """Return a size relative to another, in per cent or in times."""
    if per_cent < _TIMES_FROM:
        return f"{_number(per_cent)} % of"
    return f"{_number(per_cent / 100)} times"


def _number(value: float) -> str:
    """Return a number with three digits that count, without a power of ten where it is short."""
    if value and not _PLAIN[0] <= abs(value) < _PLAIN[1]:
        return f"{value:.2e}"
    return f"{float(f'{value:.3g}'):,.10g}"


_ZERO = Reading(
    "zero", "Exactly zero", "Share of the module's elements that are exactly zero.",
    lambda one: _share(one.zero, one.numel), _percent, _percent,
)  # fmt: skip
_SAME = Reading(
    "unchanged", "Unchanged",
    "Share of the module's elements in tensors that are bit for bit as in the checkpoint before.",
    lambda one: _share(one.same, one.compared), _percent, _percent,
)  # fmt: skip
_BROKEN = Reading(
    "not-finite", "Not finite", "Share of the module's elements that are NaN or infinite.",
    lambda one: _share(one.not_finite, one.numel), _percent, _percent,
)  # fmt: skip
_NOTHING: Mapping[str, str] = {
    "zero": "no element is exactly zero",
    "unchanged": "no tensor is known to stay as it was from one checkpoint to the next",
    "not-finite": "no element is NaN or infinite",
}


def _badness(
    module: str,
    numbers: Mapping[tuple[str, str], ModuleNumbers],
    order: Sequence[str],
    size: Reading,
) -> tuple[float, ...]:
    """Return what orders modules: not finite first, then without effect, then the largest."""
    ours = [one for place in order if (one := numbers.get((place, module))) is not None]
    broken = sum(one.not_finite for one in ours)
    dead = sum(1 for one in ours if size.number(one) == 0)
    sizes = [value for one in ours if (value := size.number(one)) is not None]
    return (-float(broken > 0), -float(dead), -max(sizes, default=0.0))


def _prefix(modules: Sequence[str]) -> str:
    """Return what all names begin with, up to a dot; "" when little is won."""
    low, high = (min(modules), max(modules)) if len(modules) > 1 else ("", "")
    same = takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False))
    return low[: low.rfind(".", 0, sum(1 for _ in same)) + 1]
