"""The charts of one run, each with its caption and the table that says the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentinel.health.modules import module_numbers, value_ranges
from sentinel.health.rows import CheckpointRow
from sentinel.reports.charts.heatmap import SHARE_BORDERS, heatmap_chart, thresholds
from sentinel.reports.charts.loss import loss_chart
from sentinel.reports.charts.ranges import ranges_chart
from sentinel.reports.charts.strip import strip_chart
from sentinel.reports.charts.theme import WIDE, Theme
from sentinel.reports.facts import counted
from sentinel.reports.picture.heat import (
    MOST_COLUMNS,
    MOST_COLUMNS_NARROW,
    Heat,
    Reading,
    heat_cells,
    heat_columns,
    heat_of,
    short_name,
)
from sentinel.reports.picture.losses import MOST_POINTS, loss_marks, loss_points
from sentinel.reports.picture.same_in_words import (
    TextTable,
    heat_table,
    loss_table,
    range_table,
    strip_table,
)
from sentinel.reports.picture.thinning import thinned
from sentinel.reports.picture.told import Told
from sentinel.reports.picture.values import range_rows
from sentinel.reports.picture.verdicts import MOST_ATTEMPTS, rollbacks, strip_marks

Draw = Callable[[Theme], dict[str, object]]


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart: ``draw`` returns its specification for a theme.

    ``id`` is a name for files and anchors. ``borders`` are what parts a heat map's colours, in
    words; ``is_dense`` says that its marks are too many to be read out one by one.
    """

    id: str
    title: str
    caption: str
    draw: Draw
    table: TextTable
    borders: tuple[str, ...] = ()
    is_dense: bool = False


def figures_of(run: Told) -> list[Figure]:
    """Return the figures of a run that has anything to draw, in the order of the page.

    The heat maps are those whose id begins with `heat-`.
    """
    if not run.rows:
        return []
    shown_rows = thinned(run.rows, MOST_COLUMNS)
    ids = [row.checkpoint_id for row in shown_rows]
    heat = heat_of(module_numbers(run.root, run.run_id, ids), ids)
    return [
        _strip(run),
        *_loss(run),
        *(_heat(run, heat, reading, shown_rows) for reading in heat.readings if heat.modules),
        *_ranges(run, ids),
    ]


def _strip(run: Told) -> Figure:
    def draw(theme: Theme) -> dict[str, object]:
        marks = strip_marks(run, width=theme.width)
        return strip_chart(marks, rollbacks(run), theme, last_step=run.last_step)

    drawn = len(strip_marks(run, width=WIDE))
    caption = "One mark a checkpoint, one row an attempt; a dashed line leads back to where the"
    caption += " next attempt began."
    if drawn < len(run.rows):
        caption += f" {len(run.rows):,} checkpoints are drawn as {drawn} marks, each the gravest"
        caption += " of those that lie there."
    if len(run.attempts) > MOST_ATTEMPTS:
        caption += f" The newest {MOST_ATTEMPTS} of {len(run.attempts)} attempts are drawn."
    if not run.knows_steps:
        caption += " No checkpoint tells its step, so they stand in the order seen."
    return Figure("verdicts", "Verdicts", caption, draw, strip_table(run))


def _loss(run: Told) -> list[Figure]:
    points = loss_points(run)
    if not points:
        return []

    def draw(theme: Theme) -> dict[str, object]:
        return loss_chart(points, loss_marks(run), theme, last_step=run.last_step)

    if any(row.losses for row in run.rows):
        caption = "What the trainer logged as loss."
    else:
        caption = "The last loss that the trainer logged before each checkpoint: this log keeps no"
        caption += " more of them."
    logged = sum(max(len(row.losses), 1) for row in run.rows)
    if logged > len(points) and len(points) >= MOST_POINTS:
        caption += f" Of {logged:,} values {len(points)} are drawn, evenly thinned."
    if any(point.loss is None for point in points):
        caption += " A cross at the upper edge is a loss that is no finite number."
    return [Figure("loss", "Loss", caption, draw, loss_table(points))]


def _heat(run: Told, heat: Heat, reading: Reading, rows: Sequence[CheckpointRow]) -> Figure:
    borders: tuple[float, ...] = SHARE_BORDERS
    if reading.id == "size":
        sizes = [reading.number(one) for one in heat.numbers.values()]
        borders = tuple(thresholds([size for size in sizes if size is not None]))
    names = [short_name(module, heat) for module in heat.modules]

    def draw(theme: Theme) -> dict[str, object]:
        columns = thinned(rows, MOST_COLUMNS_NARROW) if theme.is_narrow else rows
        cells = heat_cells(heat, reading, columns)
        return heatmap_chart(
            cells,
            names,
            heat_columns(columns),
            theme,
            title=f"{reading.title} of each module over the checkpoints",
            borders=borders,
        )

    return Figure(
        f"heat-{reading.id}",
        reading.title,
        f"{reading.explains} {_left_out(run, heat, rows)}",
        draw,
        heat_table(heat, reading, rows),
        borders=tuple(_border(reading, border) for border in borders),
        is_dense=True,
    )


def _border(reading: Reading, border: float) -> str:
    """Return the border of a colour in words; the outer ones of a share are nothing and all."""
    if reading.id != "size" and border == SHARE_BORDERS[0]:
        return "above 0"
    if reading.id != "size" and border == SHARE_BORDERS[-1]:
        return "all of it"
    return f"from {reading.short(border)}"


def _left_out(run: Told, heat: Heat, rows: Sequence[CheckpointRow]) -> str:
    """Return what a map does not show, and in which order it shows the rest."""
    said = "Worst modules first: not finite, then without effect, then the largest."
    if heat.module_count > len(heat.modules):
        said += f" {len(heat.modules)} of {heat.module_count:,} modules are shown."
    if len(rows) < len(run.rows):
        said += f" {len(rows)} of {counted(len(run.rows), 'checkpoint')} are shown, of each stretch"
        said += " the gravest."
    if heat.prefix:
        said += f" All names begin with {heat.prefix}"
    return said


def _ranges(run: Told, ids: Sequence[str]) -> list[Figure]:
    ranges = value_ranges(run.root, run.run_id, ids)
    if not ranges:
        return []
    rows = range_rows(ranges)

    def draw(theme: Theme) -> dict[str, object]:
        return ranges_chart(rows, theme)

    caption = (
        "Bars span the usual magnitudes (root mean squares of the tensors), lines reach to the"
        " largest. fp16 ends at 65504; below 6.1e-05 it loses precision bit by bit, below 3e-08"
        " everything. bf16 reaches as far as fp32, with 8 bits of precision where fp16 has 11."
        " Rows are named by attempt, role and dtype."
    )
    if len(rows) < len(ranges):
        caption += f" {len(rows)} of {len(ranges)} are shown, those of the newest attempts."
    return [Figure("ranges", "Magnitudes and dtypes", caption, draw, range_table(ranges))]
