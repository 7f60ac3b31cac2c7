"""`sentinel diff`: what changed between two checkpoints."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from sentinel.cli.exit_codes import FOUND, GOOD, UNREADABLE
from sentinel.cli.options import ANY_PATH
from sentinel.cli.output import OutputClosed, console, say


@click.command()
@click.argument("first", metavar="A", type=ANY_PATH)
@click.argument("second", metavar="B", type=ANY_PATH)
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text or JSON."
)
def command(first: Path, second: Path, form: str) -> int:
    """Tell what changed from checkpoint A to checkpoint B.

    Settings that differ, tensors that only one has, other shapes and dtypes;
    for each module the share of identical elements, the change relative to
    its size before, and the largest change. Different dtypes are compared by
    value. Optimizer states are not compared. Nothing is written.

    \b
    Exit codes: 0 weights and settings are equal, 1 something differs, 2 it
    could not be compared, not even to the point of finding a difference.

    \b
    Examples:
      sentinel diff out/checkpoint-100 out/checkpoint-200
      sentinel diff before.safetensors after.safetensors --format json
    """
    from sentinel.cli.single import open_single, refuse_torn
    from sentinel.reports.diff import diff_sections, diff_to_json
    from sentinel.reports.sections import render_sections
    from sentinel.stats.comparison import compare

    before, after = open_single(first), open_single(second)
    for checkpoint in (before, after):
        refuse_torn(checkpoint)
    comparison = compare(before, after)
    # A reader that went away does not change what was found.
    with suppress(OutputClosed):
        if form == "json":
            say(diff_to_json(comparison) + "\n")
        else:
            render_sections(tuple(diff_sections(comparison, Path.cwd())), console())
    if comparison.is_different:
        return FOUND
    return UNREADABLE if comparison.unknown else GOOD
