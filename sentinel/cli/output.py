"""Where commands print: names from files made harmless, a reader that goes away taken calmly."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

import click

from sentinel.cli.exit_codes import CLOSED

if TYPE_CHECKING:
    from rich.console import Console

    from sentinel.reports.table import Rows

Form = Literal["text", "json", "csv"]


class OutputClosed(click.exceptions.Exit):
    """Whoever read standard output has had enough, as `head -1` has after a line."""

    def __init__(self) -> None:
        super().__init__(CLOSED)


def console(*, error: bool = False, record: bool = False) -> Console:
    """Return where to print; colours and width are rich's own judgement (NO_COLOR, pipes).

    FORCE_COLOR colours what goes into a pipe, and leaves it in lines: scripts read them.

    ``record`` keeps what is printed, to be saved as a picture. Printing raises OutputClosed
    when the reader of standard output is gone; without a reader of standard error the work
    goes on in silence.
    """
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _discard(2 if self.stderr else 1)
            if not self.stderr:
                raise OutputClosed

    if os.environ.get("FORCE_COLOR") and not is_tty(error=error):
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return Quiet(
            stderr=error,
            record=record,
            highlight=False,
            force_terminal=False,
            color_system=None if plain else "standard",
        )
    return Quiet(stderr=error, record=record, highlight=False)


def on_screen(out: Console) -> bool:
    """Tell whether a console is a terminal on which something can be drawn and drawn anew."""
    return out.is_terminal and not out.is_dumb_terminal and is_tty(error=out.stderr)


def plain_encoding() -> str | None:
    """Return the encoding of a standard output that is no terminal and wants no colours.

    None where there is something to choose: then `console` chooses. What goes into a pipe needs no
    library that draws, which takes a twentieth of a short scan.
    """
    if is_tty(error=False) or any(map(os.environ.get, ("FORCE_COLOR", "TTY_COMPATIBLE"))):
        return None
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def is_tty(*, error: bool) -> bool:
    """Tell whether standard output, or standard error, is a terminal."""
    stream = sys.stderr if error else sys.stdout
    return stream is not None and stream.isatty()


def say(text: str) -> None:
    """Print whole lines to standard output as they stand, raising OutputClosed."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        _discard(1)
        raise OutputClosed from None


def say_rows(rows: Rows, form: Form) -> None:
    """Print rows: as a table on a terminal, aligned lines in a pipe, JSON lines or CSV."""
    from sentinel.reports.table import to_csv, to_grid, to_json_lines, to_lines

    out = console()
    if form == "json":
        say(to_json_lines(rows))
    elif form == "csv":
        say(to_csv(rows, out.encoding))
    elif out.is_terminal:
        out.print(to_grid(rows, out.encoding))
    else:
        say(to_lines(rows, out.encoding))


def complain(message: str) -> None:
    """Print one line to standard error; names in it cannot steer the terminal."""
    from sentinel.reports.words import shown

    try:
        click.echo(f"sentinel: {shown(message)}", err=True)
    except BrokenPipeError:
        _discard(2)


def encodable() -> None:
    """Let what the terminal's encoding cannot say appear with backslashes, not as a crash."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard(descriptor: int) -> None:
    """Send what is still to be written nowhere: Python flushes once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
