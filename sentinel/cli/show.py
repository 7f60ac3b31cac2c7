"""`sentinel show`: what a checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentinel.cli.exit_codes import GOOD, UNREADABLE
from sentinel.cli.options import ANY_PATH, EXISTING, base_of
from sentinel.cli.output import OutputClosed, console, say

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.checkpoint import Base, Checkpoint
    from sentinel.reports.show import Shown
    from sentinel.stats.measure import Measured
    from sentinel.stats.optimizer import OptimizerGlance


@click.command()
@click.argument("checkpoint", metavar="CKPT", type=ANY_PATH)
@click.option("--modules", is_flag=True, help="Every adapted module: rank, scale, norms.")
@click.option("--tensors", is_flag=True, help="Every tensor's statistics.")
@click.option("--meta", is_flag=True, help="All settings, and the metadata of the files.")
@click.option("--base", type=EXISTING, help="The base model under the adapter.")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="Text or JSON."
)
def command(
    checkpoint: Path,
    modules: bool,
    tensors: bool,
    meta: bool,
    base: Path | None,
    form: str,
) -> int:
    """Tell what the checkpoint CKPT is, without judging it.

    Layout, trainer, versions, step, size, dtypes, roles, settings, the base and
    its quantization, the optimizer's rates and steps, and the other files of a
    resume come from headers and small files alone. --modules and --tensors
    read the weights: of each module the norms of up and down, of what it adds
    to its weight (change), and that relative to the weight where the base
    model lies on this machine. --meta lists every setting by its name, as
    docs/settings.md explains them.

    \b
    Exit codes: 0 shown, 2 something in it could not be read.

    \b
    Examples:
      sentinel show out/checkpoint-100
      sentinel show lora.safetensors --modules
      sentinel show lora.safetensors --meta --format json
    """
    from sentinel.cli.single import open_single
    from sentinel.reports.sections import render_sections
    from sentinel.reports.show import show_sections, show_to_json

    opened = open_single(checkpoint)
    shown = _gather(opened, base_of(base), modules=modules, tensors=tensors, meta=meta)
    with suppress(OutputClosed):
        if form == "json":
            say(show_to_json(shown) + "\n")
        else:
            render_sections(tuple(show_sections(shown, Path.cwd())), console())
    return UNREADABLE if shown.checkpoint.faults else GOOD


def _gather(
    checkpoint: Checkpoint, base: Base | None, *, modules: bool, tensors: bool, meta: bool
) -> Shown:
    from sentinel.flow import find_base, inspect
    from sentinel.reports.show import Shown

    inspected = inspect(checkpoint.path) if modules or tensors else None
    opened = inspected.checkpoint if inspected else checkpoint
    measured = inspected.measured if inspected else None
    known = base or find_base(opened)
    return Shown(
        opened,
        pairs=_pairs(measured, known, is_given=base is not None) if measured and modules else None,
        effects=measured.effects if measured and modules else None,
        tensors=measured.tensors if measured and tensors else None,
        metadata=_metadata(opened) if meta else None,
        base=known,
        optimizer=_optimizer(opened),
    )


def _pairs(measured: Measured, base: Base | None, *, is_given: bool) -> pa.Table:
    """Return the table ``pairs``, with the sizes of the base's weights where they are known."""
    from sentinel.stats.base_norms import FOUND_BUDGET_BYTES, GIVEN_BUDGET_BYTES, BaseNorms
    from sentinel.stats.base_tables import base_tables

    if base is None:
        return measured.pairs
    norms = BaseNorms(GIVEN_BUDGET_BYTES if is_given else FOUND_BUDGET_BYTES)
    return base_tables(base, measured, norms)["pairs"]


def _optimizer(checkpoint: Checkpoint) -> OptimizerGlance | None:
    """Return what the optimizer says of itself; one that cannot be read is a fault already."""
    from sentinel.errors import ChangedWhileReadError, InputError
    from sentinel.stats.optimizer import glance_at_optimizer
    from sentinel.stats.reading import MemberFiles

    if checkpoint.optimizer is None:
        return None
    with suppress(InputError, ChangedWhileReadError), MemberFiles(checkpoint) as files:
        return glance_at_optimizer(checkpoint.optimizer, files)
    return None


def _metadata(checkpoint: Checkpoint) -> Mapping[str, Mapping[str, str]]:
    """Return what the headers carry beside tensors, by member; a broken one is a fault already."""
    from sentinel.errors import InputError
    from sentinel.formats.containers.gguf import read_gguf
    from sentinel.formats.containers.gguf_metadata import value_text
    from sentinel.formats.containers.safetensors import read_safetensors_header

    found: dict[str, Mapping[str, str]] = {}
    for member in checkpoint.members:
        path = checkpoint.root / member.path
        with suppress(InputError):
            if member.path.endswith(".safetensors"):
                found[member.path] = read_safetensors_header(path).metadata
            elif member.path.endswith(".gguf"):
                values = read_gguf(path).metadata
                found[member.path] = {key: value_text(value) for key, value in values.items()}
    return {path: metadata for path, metadata in found.items() if metadata}
