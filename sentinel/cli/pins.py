"""`sentinel pins`: the copies of good checkpoints that no trainer's rotation reaches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli import completing
from sentinel.cli.options import ANY_PATH, settled
from sentinel.cli.output import Form, complain, console, say_rows
from sentinel.errors import ConfigError, RepairError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel.daemon.places import Places
    from sentinel.repairs.pins import Pin

_SHORT = 8
_COLUMNS = ("run", "pin", "step", "pinned_at", "size", "how", "source", "path")


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN|PIN...]", shell_complete=completing.runs)
@click.option("--check", "checking", is_flag=True, help="Read them and compare their digests.")
@click.option("--drop", "dropping", is_flag=True, help="Remove the named ones.")
@click.option("--all", "everything", is_flag=True, help="With --drop: every pin there is.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    help="Text for people, one JSON object a line, or CSV.",
)
@click.option("--state", type=ANY_PATH, help="Where sentinel keeps its journal.")
@click.option("--config", "config_path", type=ANY_PATH, help="The settings file.")
def command(
    names: tuple[str, ...],
    checking: bool,
    dropping: bool,
    everything: bool,
    form: Form,
    state: Path | None,
    config_path: Path | None,
) -> int:
    """List the pins of all runs, or of a RUN (its directory, or the beginning of its id).

    `sentinel run` keeps the newest good checkpoints of a run as copies outside the trainer's
    directory, and begins from one when the original was rotated away. A PIN is named by the
    beginning of its id. With --check the exit code is 1 when one is damaged.

    \b
    Examples:
      sentinel pins
      sentinel pins out/ --check
      sentinel pins --drop 4f81c2aa
    """
    from sentinel.daemon.places import places_of
    from sentinel.repairs.pins import PinStore

    places = places_of(settled(config_path, state))
    store = PinStore(places.pins)
    pins = _named(names, store.pins(), places)
    if dropping:
        if not names and not everything:
            raise ConfigError(
                "pins", fact="none is named", todo="name a run or a pin, or say --all"
            )
        for pin in pins:
            store.drop(pin)
            complain(f"dropped the pin of '{pin.manifest.source}'")
        return 0
    if not pins and form == "text":
        complain(f"nothing is pinned in '{places.pins}'")
        return 0
    _list(pins, form)
    return 1 if checking and _damaged(pins) else 0


def _list(pins: Sequence[Pin], form: Form) -> None:
    from sentinel.reports.table import Rows
    from sentinel.sizes import size_words

    short = form == "text"
    rows = []
    for pin in pins:
        told = pin.manifest
        ids = (told.run_id, told.checkpoint_id)
        rows.append(
            (
                *(one[:_SHORT] if short else one for one in ids),
                told.step,
                told.pinned_at.isoformat(timespec="seconds"),
                size_words(pin.size_bytes) if short else pin.size_bytes,
                told.how,
                told.source,
                str(pin.path),
            )
        )
    say_rows(Rows(_COLUMNS, tuple(rows)), form)
    if short and console().is_terminal:
        total = sum(pin.size_bytes for pin in pins)
        console().print(f"\n{size_words(total)} in all", style="dim")


def _damaged(pins: Sequence[Pin]) -> bool:
    """Say what is damaged, one line each."""
    from sentinel.repairs.pins import check

    damaged = False
    for pin in pins:
        try:
            check(pin)
        except RepairError as error:
            complain(str(error))
            damaged = True
    return damaged


def _named(names: Sequence[str], pins: Sequence[Pin], places: Places) -> list[Pin]:
    """Return the pins that the names stand for, all without one; each name must stand for some."""
    if not names:
        return list(pins)
    found: dict[Path, Pin] = {}
    for name in names:
        runs = _runs_at(Path(name), places)
        meant = [pin for pin in pins if _is_called(pin, name, runs)]
        if not meant:
            raise ConfigError(
                f"pin '{name}'", fact="is not pinned", todo="see `sentinel pins` for all of them"
            )
        found |= {pin.place: pin for pin in meant}
    return list(found.values())


def _is_called(pin: Pin, name: str, runs: frozenset[str]) -> bool:
    told = pin.manifest
    return (
        told.run_id in runs or told.run_id.startswith(name) or told.checkpoint_id.startswith(name)
    )


def _runs_at(path: Path, places: Places) -> frozenset[str]:
    """Return the runs whose checkpoints lie in or below a directory."""
    from sentinel.daemon.journal import Journal

    if not places.journal.exists() or not path.is_dir():
        return frozenset()
    real = Path(os.path.realpath(path))
    journal = Journal(places.journal)
    try:
        known = journal.runs().items()
    finally:
        journal.close()
    return frozenset(run for run, roots in known if any(r.is_relative_to(real) for r in roots))
