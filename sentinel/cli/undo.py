"""`sentinel undo`: takes away what `sentinel repair` wrote, or brings back what was moved."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from sentinel.checkpoint import path_text
from sentinel.cli.exit_codes import FOUND, GOOD
from sentinel.cli.options import ANY_PATH
from sentinel.cli.output import OutputClosed, console


@click.command()
@click.argument("receipt", type=ANY_PATH)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def command(receipt: Path, dry_run: bool) -> int:
    """Take away the copy, or bring back the checkpoint, that RECEIPT is about.

    The `receipt.json` of a quarantine (or its directory): the checkpoint is
    renamed back to where it was, unless something lies there by now. Its
    verdict stays: `sentinel run` will not begin from it.

    Else RECEIPT is the `sentinel-repair.json` inside a repaired directory (or that
    directory), or the `sentinel-repair-NAME.json` beside a repaired file.
    Only files that are still as they were written are removed. What was
    changed since, or came in addition, stays and is told. Nothing is removed
    when the original is gone or was changed: the copy may be all there is.

    \b
    Exit codes: 0 done, 1 something of the copy stays, 2 refused.

    \b
    Examples:
      sentinel undo out-repaired/checkpoint-300/sentinel-repair.json
      sentinel undo sentinel-repair-cat.safetensors.json --dry-run
      sentinel undo .sentinel-quarantine/4f81c2aa90b1/receipt.json
    """
    from sentinel.repairs.files.undoing import undo
    from sentinel.repairs.quarantine import bring_back, receipt_at
    from sentinel.reports.repair import undo_sections
    from sentinel.reports.sections import render_sections

    quarantined = receipt_at(receipt)
    if quarantined is not None:
        moved = bring_back(quarantined, dry_run=dry_run)
        told = "would bring back" if dry_run else "brought back"
        with suppress(OutputClosed):
            console().print(f"{told} '{path_text(moved.source)}'", soft_wrap=True)
        return GOOD
    done = undo(receipt, dry_run=dry_run)
    with suppress(OutputClosed):
        sections = undo_sections(
            root=done.root,
            removed=done.removed,
            gone=done.gone,
            changed=done.changed,
            added=done.added,
            dry_run=dry_run,
            base_dir=Path.cwd(),
        )
        render_sections(tuple(sections), console())
    return GOOD if done.is_clean else FOUND
