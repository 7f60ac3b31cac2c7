"""The command `sentinel-train`: a recipe in, checkpoints out, or one of them exported.

Exit codes: 0 the training reached its last step; 2 the recipe, an option, a checkpoint, the
base or the data was refused, nothing was written; 3 the memory of the device is full; 4 the
disk is; 143 stopped by SIGTERM and 130 by SIGINT (Ctrl-C), after the current step was finished
and saved; 1 any other failure, with Python's traceback.

A NaN loss does not end a training: it is logged as it is.

Exactness: resumed on the same machine with the optimizer state kept, a training repeats an
uninterrupted one bit for bit; a logged loss is the mean since the last log, so the first one
after a resume covers fewer steps unless `save_every` is a multiple of `log_every`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from . import __version__, quiet
from .bundled import BundledRecipes
from .checkpoints import later_than
from .data.files import find_files, find_held_out
from .disk import DiskFullError
from .engines import misfit
from .errors import RefusedError
from .export.command import export
from .length import nothing_left
from .precedence import choices, table
from .processes import from_environment
from .recipe import Recipe
from .recipe_file import Settings, check, read_settings, with_option
from .scaling import rescaled
from .start import (
    Checkpoint,
    OptimizerState,
    choose_optimizer_state,
    inherit,
    read_checkpoint,
    refuse_other_adapter,
    refuse_other_beginning,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; argparse ends a wrong call with SystemExit(2)."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if words[:1] == ["export"]:
            return export(words[1:])
        with from_environment().speaking():
            return _run(_parser().parse_args(words))
    except RefusedError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # every process of a machine meets the same
            print(f"sentinel-train: {error}", file=sys.stderr)
        return 2
    except DiskFullError as error:
        print(f"sentinel-train: {error}", file=sys.stderr)
        return 4


def _run(options: argparse.Namespace) -> int:
    """Check everything that needs no torch, then hand over to the session."""
    checkpoint = read_checkpoint(options.resume) if options.resume else None
    file = read_settings(options.recipe)
    given, settings = _overlaid({}, options.set), _overlaid(file, options.set)
    inherited = inherit(settings, checkpoint) if checkpoint else settings
    recipe = check(inherited, f"recipe '{options.recipe}'")
    recipe = recipe.model_copy(update={"output_dir": str(Path(recipe.output_dir).absolute())})
    find_files(recipe.data)
    find_held_out(recipe.data)
    state: OptimizerState = "drop"
    if checkpoint:
        refuse_other_adapter(recipe, checkpoint)
        refuse_other_beginning(recipe, checkpoint.path)
        state, reason = choose_optimizer_state(recipe, checkpoint, options.resume_optimizer)
        processes, before = from_environment(), checkpoint.processes or {}
        unfit = misfit(recipe, processes, before)
        if state == "keep" and unfit:
            if options.resume_optimizer == "keep":
                raise RefusedError("--resume-optimizer keep", unfit, "drop it, or use engine ddp")
            state, reason = "drop", unfit
        recipe, scaled = rescaled(recipe, before, processes.count, given)
        print("\n".join([*_resume_lines(checkpoint, state, reason), *scaled]), flush=True)
    elif options.resume_optimizer:
        raise RefusedError("--resume-optimizer", "has no effect without --resume")
    won = choices(recipe, given, file, checkpoint.recipe if checkpoint else None)
    for line in table(won):
        print(line, flush=True)
    if options.init_lora:
        refuse_other_beginning(recipe, options.init_lora)
        print(f"adapter weights from '{options.init_lora}', training from step 0", flush=True)
    if options.print_plan:
        _print_plan(recipe, checkpoint)
        return 0
    if checkpoint and (done := nothing_left(recipe, checkpoint.step)):
        print(done)
        return 0
    return _train(recipe, checkpoint, state, options.init_lora)


def _train(
    recipe: Recipe, checkpoint: Checkpoint | None, state: OptimizerState, init_lora: Path | None
) -> int:
    quiet.before_imports()
    from .memory import OutOfMemoryError  # noqa: PLC0415 - torch comes with the session
    from .session import Start, exit_code, train  # noqa: PLC0415

    try:
        return exit_code(train(Start(recipe, checkpoint, state, init_lora)))
    except OutOfMemoryError as error:
        print(f"sentinel-train: {error}", file=sys.stderr)
        return 3


def _overlaid(settings: Settings, options: Sequence[str]) -> Settings:
    """Return settings with `--set` options over them, in their order."""
    for option in options:
        settings = with_option(settings, option)
    return settings


def _resume_lines(checkpoint: Checkpoint, state: OptimizerState, reason: str) -> list[str]:
    action = "kept" if state == "keep" else "dropped"
    return [
        f"resume from '{checkpoint.path}' at step {checkpoint.step}",
        f"optimizer state: {action} ({reason})",
    ]


def _print_plan(recipe: Recipe, checkpoint: Checkpoint | None) -> None:
    """Print the recipe in full and what would be moved; nothing is written."""
    step = checkpoint.step if checkpoint else 0
    later = later_than(Path(recipe.output_dir), step)
    if later:
        print(f"would move aside: {', '.join(path.name for path in later)}")
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sentinel-train",
        description="Fine-tune a LoRA or DoRA adapter as a recipe says.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, help="YAML file")
    parser.add_argument("--recipes", action=BundledRecipes, help="list the bundled ones and stop")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="put a setting over the recipe's; may be repeated",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", type=Path, metavar="CHECKPOINT_DIR", help="go on from there")
    begin.add_argument(
        "--init-lora", type=Path, metavar="DIR", help="begin at step 0 with these weights"
    )
    parser.add_argument(
        "--resume-optimizer",
        choices=("keep", "drop"),
        help="default: keep, or drop when the precision or the optimizer changed",
    )
    parser.add_argument("--print-plan", action="store_true", help="say what would be done and stop")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
