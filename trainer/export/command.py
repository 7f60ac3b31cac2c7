"""The command `sentinel-train export`: one checkpoint in, one file or model out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import quiet
from ..errors import RefusedError

TARGETS = ("kohya", "diffusers", "comfy", "merged")


def export(argv: Sequence[str]) -> int:
    """Run the command and return its exit code; a refusal is a RefusedError."""
    options = _parser().parse_args(argv)
    if options.base is not None and options.to != "merged":
        raise RefusedError("--base", f"has no effect with --to {options.to}")
    quiet.before_imports()
    from .files import export_file  # noqa: PLC0415 - torch comes with it
    from .merged import export_merged  # noqa: PLC0415

    quiet.after_imports()
    if options.to == "merged":
        if options.told:
            raise RefusedError("--as", "has no effect with --to merged")
        lines = export_merged(
            options.checkpoint, options.base, options.output, options.dtype, force=options.force
        )
    else:
        lines = export_file(
            options.checkpoint,
            options.to,
            options.told,
            options.output,
            options.dtype,
            force=options.force,
        )
    print("\n".join(lines), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sentinel-train export",
        description="Write a PEFT checkpoint as another program reads it.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", type=Path, help="directory with adapter_model.safetensors")
    parser.add_argument(
        "--to",
        choices=TARGETS,
        required=True,
        help="kohya: sd-scripts, LyCORIS and the web UIs; diffusers: load_lora_weights; comfy: "
        "ComfyUI; merged: a whole model without adapter",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: RUN-STEP-TARGET.safetensors here (a directory for merged)",
    )
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16", "fp16"), help="default: as it was trained"
    )
    parser.add_argument(
        "--as",
        dest="told",
        metavar="BASE",
        help="what it was trained on, where its names do not say: sd1, sd2, sdxl, flux, "
        "transformer, clip, clip-l, clip-g, t5, text",
    )
    parser.add_argument("--base", help="the model to merge into, instead of the recorded one")
    parser.add_argument("--force", action="store_true", help="replace what lies there")
    return parser
