"""OneTrainer's adapters at their start and in every output format, by its own set-up and savers."""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _onetrainer_tiny import fill_flux, fill_stable_diffusion, fill_stable_diffusion_xl
from _writing import describe

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Kind:
    """A model: how it is filled, and which few of its layers are trained."""

    fill: Callable[[Any, Path], None]
    model: str
    layers: str


KINDS = {
    "STABLE_DIFFUSION_15": Kind(
        fill_stable_diffusion,
        "StableDiffusionModel",
        "conv_in,down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    ),
    "STABLE_DIFFUSION_XL_10_BASE": Kind(
        fill_stable_diffusion_xl,
        "StableDiffusionXLModel",
        "conv_in,down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    ),
    "FLUX_DEV_1": Kind(
        fill_flux, "FluxModel", "transformer_blocks.0.attn,single_transformer_blocks.0.proj_mlp"
    ),
}
FAMILIES: dict[str, dict[str, object]] = {
    "lora": {},
    "dora": {"lora_decompose": True},
    "dora_output_axis": {"lora_decompose": True, "lora_decompose_output_axis": True},
    "loha": {"peft_type": "LOHA"},
    "lokr": {"peft_type": "LOKR", "lokr_dim": 2},
    "lokr_both": {
        "peft_type": "LOKR",
        "lokr_dim": 1,
        "lokr_decompose_both": True,
        "lokr_decompose_factor": 4,
    },
    "lokr_tucker": {"peft_type": "LOKR", "lokr_dim": 1, "lokr_use_tucker": True},
    "lokr_full": {"peft_type": "LOKR", "lokr_full_matrix": True},
    "lokr_dora": {"peft_type": "LOKR", "lokr_dim": 2, "lokr_weight_decompose": True},
    "oft": {"peft_type": "OFT_2", "oft_block_size": 4},
    "oft_scaled": {"peft_type": "OFT_2", "oft_block_size": 4, "oft_scaled": True},
    "oft_shared": {"peft_type": "OFT_2", "oft_block_size": 4, "oft_block_share": True},
}
"""What is set for each of OneTrainer's families and their variants."""

EVERY_FAMILY = [
    ("STABLE_DIFFUSION_15", form) for form in ("DIFFUSERS_LORA", "KOHYA_LORA", "COMFY_LORA")
]
"""The models and formats in which more than plain LoRA is written."""

BEFORE_THE_RENAMING = "de1437cb^"
"""The last commit before OneTrainer's keys and output formats were named anew."""


def at_start(scratch: Path) -> dict[str, dict[str, object]]:
    """Return the backup of every family before its first step, with each module's own numbers."""
    found = {}
    for family, changes in FAMILIES.items():
        model, saver = _set_up(scratch, "STABLE_DIFFUSION_15", "INTERNAL", changes)
        directory = scratch / "start" / family
        saver.save(model, model.model_type, _format("INTERNAL"), str(directory), None)
        found[family] = {
            "given": changes,
            "modules": _modules(model.unet_lora.lora_modules.values()),
            "file": describe(directory / "lora" / "lora.safetensors"),
        }
    return found


def by_format(scratch: Path) -> dict[str, dict[str, object]]:
    """Return one file a model, output format and family that the format writes in its own way."""
    from modules.util.enum.ModelType import ModelType

    found = {}
    for kind in KINDS:
        for form in map(str, ModelType[kind].supported_lora_formats()):
            for family in ("lora", "dora", "dora_output_axis", "loha", "oft"):
                if family != "lora" and (kind, form) not in EVERY_FAMILY:
                    continue
                model, saver = _set_up(scratch, kind, form, FAMILIES[family])
                path = scratch / "formats" / f"{kind}-{form}-{family}.safetensors"
                saver.save(model, model.model_type, _format(form), str(path), torch.float16)
                found[f"{kind}/{form}/{family}"] = describe(path)
    return found


def before_the_renaming(checkout: Path, scratch: Path) -> dict[str, object]:
    """Return what the commit before the renaming wrote, run from an export of the history.

    Nothing when the checkout has no history.
    """
    older = scratch / "older"
    older.mkdir()
    archive = ["git", "-C", str(checkout), "archive", BEFORE_THE_RENAMING]
    made = subprocess.run(archive, capture_output=True, check=False)
    if made.returncode:
        return {}
    subprocess.run(["tar", "-x", "-C", str(older)], input=made.stdout, check=True)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "onetrainer.py"), str(older), "older"],
        cwd=scratch,
        env={**os.environ},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(older)
    written = scratch / "older-start"
    if done.returncode or not written.is_dir():
        return {}
    found = {
        path.relative_to(written).as_posix(): describe(path)
        for path in sorted(written.rglob("*.safetensors"))
    }
    commit = ["git", "-C", str(checkout), "rev-parse", BEFORE_THE_RENAMING]
    named = subprocess.run(commit, capture_output=True, check=True, text=True)
    return {"commit": named.stdout.strip(), "files": found}


def write_older(scratch: Path) -> None:
    """Write what an older OneTrainer did: a backup and both output formats of two models."""
    for kind in ("STABLE_DIFFUSION_15", "FLUX_DEV_1"):
        for form in ("INTERNAL", "SAFETENSORS", "LEGACY_SAFETENSORS"):
            model, saver = _set_up(scratch, kind, form, {})
            name = f"{form}.safetensors" if form != "INTERNAL" else "backup"
            path = scratch / "older-start" / kind / name
            saver.save(model, model.model_type, _format(form), str(path), None)


def _set_up(scratch: Path, kind: str, form: str, changes: dict[str, object]) -> tuple[Any, Any]:
    """Return a model with its adapters and the saver of its kind."""
    import importlib

    from modules.util import create
    from modules.util.config.TrainConfig import TrainConfig
    from modules.util.enum.ModelType import ModelType
    from modules.util.enum.TrainingMethod import TrainingMethod

    model_type, lora = ModelType[kind], TrainingMethod.LORA
    config = TrainConfig.default_values()
    config.from_dict(
        {
            "model_type": kind,
            "training_method": "LORA",
            "train_device": "cpu",
            "train_dtype": "FLOAT_32",
            "lora_rank": 2,
            "lora_alpha": 3.0,
            "layer_filter": KINDS[kind].layers,
            "output_model_format": form,
            **changes,
        },
        migrate=False,
    )
    # ORIGINAL refuses more than the denoising model, and families need no second component.
    config.text_encoder.train = form != "ORIGINAL_LORA" and not changes
    config.text_encoder_2.train = False
    name = KINDS[kind].model
    model = getattr(importlib.import_module(f"modules.model.{name}"), name)(model_type=model_type)
    KINDS[kind].fill(model, scratch)
    model.train_config = config
    setup = create.create_model_setup(model_type, CPU, CPU, lora, debug_mode=False)
    setup.setup_optimizations(model, config)
    setup.setup_model(model, config)
    return model, create.create_model_saver(model_type, lora)


def _modules(modules: Any) -> dict[str, dict[str, object]]:
    """Return class, weight, rank and scale of each adapted module, as its own forward has them."""
    found = {}
    for module in modules:
        rank = getattr(module, "dim", None) or module.rank
        alpha = getattr(module, "alpha", None)
        found[module.prefix.removesuffix(".")] = {
            "class": type(module).__name__,
            "weight": list(module.orig_module.weight.shape),
            "rank": rank,
            **({} if alpha is None else {"scale": float(alpha) / rank}),
        }
    return found


def _format(name: str) -> Any:
    from modules.util.enum.ModelFormat import ModelFormat

    return ModelFormat[name]
