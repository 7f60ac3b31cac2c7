"""`sentinel report`: a run as one page to look at."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import completing
from sentinel.cli.options import ANY_PATH, rules_of, settled, stateful
from sentinel.cli.output import complain, say
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.reports.picture.told import Told

_STDOUT = Path("-")


@click.command()
@click.argument("run", required=False, shell_complete=completing.runs)
@click.option(
    "--output",
    "-o",
    type=ANY_PATH,
    default="report.html",
    show_default=True,
    help="The page's file; - for standard output.",
)
@click.option("--figures", type=ANY_PATH, help="Also write each chart there, as SVG and PNG.")
@click.option("--force", is_flag=True, help="Also replace a file that is no report.")
@stateful
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
def command(
    run: str | None,
    output: Path,
    figures: Path | None,
    force: bool,
    log: Path | None,
    state: Path | None,
    config_path: Path | None,
) -> None:
    """Make one page of RUN (an id, its beginning, or its directory; default: the newest).

    The page shows the verdicts over the steps, the loss with faults and repairs, the modules, the
    magnitudes beside what fp16 and bf16 hold, each finding with its explanation and the command
    that helps, and what each repair saved. It is one file without network and scripts of others,
    for a screen, a telephone, paper, a keyboard and a screen reader.

    It needs the extra `report`. A report from before is replaced; any other file of that name
    stays, unless --force is given.

    \b
    Examples:
      sentinel report                          the newest run, into report.html
      sentinel report out/ -o out.html
      sentinel report out/ --log log           what `scan out/ --log log` saw
      sentinel report out/ --figures pictures
    """
    from sentinel.cli.runs import newest_run, run_named
    from sentinel.daemon.places import places_of
    from sentinel.reports.picture.told import told

    config = settled(config_path, state, log)
    places = places_of(config)
    _refuse_to_replace(output, force=force)
    name = newest_run(places) if run is None else run_named(run, places)
    seen = told(places.log, name)
    page = _page(seen, config_path, state, log)
    if output == _STDOUT:
        say(page)
    else:
        _write(output, page.encode())
        complain(f"run {name[:8]} is in '{output}' ({len(page.encode()) / 1000:,.0f} kB)")
    if figures is not None:
        many = _write_figures(seen, figures)
        complain(f"{many} pictures are in '{figures}', each as SVG and PNG")


def _page(run: Told, config_path: Path | None, state: Path | None, log: Path | None) -> str:
    from sentinel import __version__
    from sentinel.reports.picture.whole_page import report_page

    rules = {rule.id: rule for rule in rules_of(settled(config_path, state, log), ())}
    given = (("--state", state), ("--config", config_path))
    options = [word for name, path in given if path for word in (name, str(path.absolute()))]
    return report_page(run, rules, version=__version__, made_at=datetime.now(UTC), options=options)


def _write_figures(run: Told, directory: Path) -> int:
    from sentinel.reports.charts.drawing import to_png, to_svg
    from sentinel.reports.charts.theme import picture_theme
    from sentinel.reports.picture.figures import figures_of

    figures = figures_of(run)
    for figure in figures:
        spec = figure.draw(picture_theme())
        _write(directory / f"{figure.id}.svg", to_svg(spec).encode())
        _write(directory / f"{figure.id}.png", to_png(spec))
    return len(figures)


def _write(path: Path, data: bytes) -> None:
    from sentinel.storage import atomic_write

    try:
        atomic_write(path, data)
        # A temporary file is its owner's alone; a page is made to be passed on.
        mask = os.umask(0)
        os.umask(mask)
        path.chmod(0o666 & ~mask)
    except OSError as error:
        raise ConfigError(
            "report",
            where=f"'{path}'",
            fact=f"cannot be written ({error.strerror or error})",
            todo="name another file or directory",
        ) from error


def _refuse_to_replace(path: Path, *, force: bool) -> None:
    from sentinel.reports.picture.whole_page import is_report

    if path == _STDOUT or force or not path.exists():
        return
    if path.is_dir():
        raise ConfigError(
            "report", where=f"'{path}'", fact="is a directory", todo="name a file with -o"
        )
    if not is_report(path):
        raise ConfigError(
            "report",
            where=f"'{path}'",
            fact="is there already and is no report of sentinel",
            todo="name another file with -o, or give --force",
        )
