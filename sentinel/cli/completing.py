"""What the shell offers after Tab: runs and rules by their names. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

_RUN = "run_id="
_SHORT = 8
"""So much of a run's id is shown elsewhere, and is enough to name it."""


def runs(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the runs of the health log, by the beginning of their ids, and directories.

    What is wrong with the settings is not the time to say.
    """
    from sentinel.cli.options import settled
    from sentinel.daemon.places import places_of
    from sentinel.errors import SentinelError

    given = (ctx.params.get(name) for name in ("config_path", "state", "log"))
    try:
        places = places_of(settled(*given))
        found = sorted(_runs_of(places.log / "checkpoints"))
    except (SentinelError, OSError):
        found = []
    items = [CompletionItem(name) for name in found if name.startswith(incomplete)]
    return [*items, CompletionItem(incomplete, type="dir")]


def rules(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the rules of the catalogue."""
    from sentinel.rules.files import bundled_files, catalogue

    names = sorted(file.stem for file in bundled_files(catalogue()))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def also(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the forms of FORM=FILE; the file's name is the user's."""
    from sentinel.cli.formats import FORMS

    return [CompletionItem(f"{one}=") for one in FORMS[1:] if one.startswith(incomplete)]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer files, as after a command of any other kind."""
    return [CompletionItem(incomplete, type="file")]


def _runs_of(directory: Path) -> set[str]:
    if not directory.is_dir():
        return set()
    names = (one.name for one in directory.iterdir())
    return {name.removeprefix(_RUN)[:_SHORT] for name in names if name.startswith(_RUN)}
