"""`sentinel repair`: a new checkpoint with other dtypes, other keys, or without its optimizer."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.exit_codes import GOOD
from sentinel.cli.options import ANY_PATH
from sentinel.cli.output import OutputClosed, console, say
from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel.receipt import CastTo, CopyPlan, OptimizerWish, Receipt


@click.command()
@click.argument("checkpoint", metavar="CKPT", type=ANY_PATH)
@click.option(
    "--cast", type=click.Choice(["fp32", "bf16", "fp16"]), help="The precision of the weights."
)
@click.option(
    "--optimizer",
    type=click.Choice(["keep", "cast", "drop"]),
    default="keep",
    show_default=True,
    help="Copy the optimizer's state bit for bit, cast its moments too, or leave it out.",
)
@click.option(
    "--rename-keys",
    metavar="RULE",
    multiple=True,
    help="`auto`, or OLD=NEW for a prefix or a pattern with *; may be given several times.",
)
@click.option(
    "--to",
    metavar="PATH",
    type=ANY_PATH,
    help="The new checkpoint.  [default: its name in DIR-repaired, beside its directory DIR]",
)
@click.option("--allow-loss", is_flag=True, help="Write even where finite values are lost.")
@click.option("--apply", is_flag=True, help="Write it; without this it is only told.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text or JSON."
)
def command(
    checkpoint: Path,
    cast: CastTo | None,
    optimizer: OptimizerWish,
    rename_keys: tuple[str, ...],
    to: Path | None,
    allow_loss: bool,
    apply: bool,
    form: str,
) -> int:
    """Write a new checkpoint made from CKPT, which itself is only read.

    --cast rounds every float of the weights as torch does, and is refused
    where values would become infinite or zero. --optimizer drop leaves out
    what makes the trainer take its settings from the checkpoint.
    --rename-keys auto takes out what wrappers left in the keys (module.,
    _orig_mod., base_layer., the adapter's name) and puts base_model.model.
    in front where PEFT looks for it.

    Without --apply nothing is written: what would be is shown, file by file.
    The copy lies outside of its trainer's directory, appears whole or not at
    all, and carries a receipt for `sentinel undo`. docs/repair.md says more.

    \b
    Exit codes: 0 shown, written, or nothing to change, 2 refused.

    \b
    Examples:
      sentinel repair out/checkpoint-300 --cast fp32 --optimizer drop
      sentinel repair out/checkpoint-300 --cast fp32 --optimizer drop --apply
      sentinel repair adapter --rename-keys auto --apply
      sentinel repair cat.safetensors --rename-keys unet.=transformer.
    """
    from sentinel.cli.single import open_single
    from sentinel.repairs.files.keys import key_rules_of
    from sentinel.repairs.files.planning import prepare
    from sentinel.repairs.files.writing import write

    if cast is None and optimizer == "keep" and not rename_keys:
        raise ConfigError(
            "repair", fact="asks for no change", todo="name --cast, --optimizer or --rename-keys"
        )
    prepared = prepare(
        open_single(checkpoint),
        to,
        cast=cast,
        optimizer=optimizer,
        rename=key_rules_of(rename_keys),
        allow_loss=allow_loss,
    )
    if not prepared.plan.changes:
        _tell_nothing(prepared.plan, form)
        return GOOD
    receipt = write(prepared) if apply else None
    plan = receipt.plan if receipt else prepared.plan
    _tell(plan, _again(plan, rename_keys, allow_loss=allow_loss), form, receipt)
    return GOOD


def _tell(plan: CopyPlan, again: Sequence[str], form: str, receipt: Receipt | None) -> None:
    from sentinel.reports.repair import repair_sections, repair_to_json
    from sentinel.reports.sections import render_sections

    # A reader that went away does not change what was done.
    with suppress(OutputClosed):
        if form == "json":
            say(repair_to_json(plan, again, receipt) + "\n")
        else:
            render_sections(tuple(repair_sections(plan, again, Path.cwd(), receipt)), console())


def _tell_nothing(plan: CopyPlan, form: str) -> None:
    from sentinel.reports.repair import repair_to_json
    from sentinel.reports.words import path_words, shown

    if form == "json":
        say(repair_to_json(plan, ()) + "\n")
        return
    said = f"nothing to change in {path_words(plan.source, Path.cwd())}: it is so already"
    say(f"{shown(said)}\n")


def _again(plan: CopyPlan, rename_keys: tuple[str, ...], *, allow_loss: bool) -> list[str]:
    """Return the command that writes exactly what was shown."""
    words = ["sentinel", "repair", _word(plan.source)]
    if plan.cast:
        words += ["--cast", plan.cast]
    if plan.optimizer != "keep":
        words += ["--optimizer", plan.optimizer]
    for rule in rename_keys:
        words += ["--rename-keys", rule]
    words += ["--to", _word(plan.target)]
    return [*words, *(["--allow-loss"] if allow_loss else []), "--apply"]


def _word(path: Path) -> str:
    """Return a path as a word of a command that is given here, never one like an option."""
    here = Path.cwd()
    word = str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
    return str(path) if word.startswith("-") else word
