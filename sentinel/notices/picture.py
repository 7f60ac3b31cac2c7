"""The pictures of a run that go with a message, where the extra `report` is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sentinel.reports.charts.drawing import to_png
from sentinel.reports.charts.loss import loss_chart
from sentinel.reports.charts.strip import strip_chart
from sentinel.reports.charts.theme import Theme, picture_theme
from sentinel.reports.picture.losses import loss_marks, loss_points
from sentinel.reports.picture.told import Told, told
from sentinel.reports.picture.verdicts import rollbacks, strip_marks

Chart = dict[str, object]


def pictures_of(log: Path, run_id: str, place: Path) -> list[Path]:
    """Draw a run's verdicts, and its loss where one was logged, into a directory.

    A message without its pictures is better than none, so nothing is raised: what cannot be drawn
    is left out.
    """
    drawn: list[Path] = []
    try:
        run, theme = told(log, run_id), picture_theme()
        for name, draw in _CHARTS.items():
            chart = draw(run, theme)
            if chart is not None:
                path = place / f"{name}.png"
                path.write_bytes(to_png(chart))
                drawn.append(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with a picture, the words go out
        return drawn
    return drawn


def _verdicts(run: Told, theme: Theme) -> Chart | None:
    marks = strip_marks(run, width=theme.width)
    return strip_chart(marks, rollbacks(run), theme, last_step=run.last_step) if marks else None


def _loss(run: Told, theme: Theme) -> Chart | None:
    points = loss_points(run)
    return loss_chart(points, loss_marks(run), theme, last_step=run.last_step) if points else None


_CHARTS: dict[str, Callable[[Told, Theme], Chart | None]] = {"verdicts": _verdicts, "loss": _loss}
