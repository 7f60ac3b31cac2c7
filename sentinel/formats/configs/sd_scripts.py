"""sd-scripts' LoRA trainings: TOML for `--config_file`, or a command line.

Source: train_network.py of https://github.com/kohya-ss/sd-scripts. The adapter is trained in fp32
unless `full_fp16` or `full_bf16` casts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs import kohya_options
from sentinel.formats.configs.options import Options
from sentinel.formats.configs.values import take
from sentinel.formats.settings import Setting

TRAINER = "sd-scripts"
LOOKS_FOR = "sd-scripts' options (network_module beside pretrained_model_name_or_path)"
PROGRAMS = frozenset(
    {
        "train_network.py",
        "sdxl_train_network.py",
        "sd3_train_network.py",
        "flux_train_network.py",
        "lumina_train_network.py",
        "hunyuan_image_train_network.py",
        "anima_train_network.py",
    }
)
FILE_OPTIONS: tuple[str, ...] = ("config_file",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "pretrained_model_name_or_path": "base.path",
        "unet_lr": "optimizer.unet_learning_rate",
        "text_encoder_lr": "optimizer.text_encoder_learning_rate",
        "train_batch_size": "training.batch_size",
        "full_fp16": "precision.full_fp16",
        "full_bf16": "precision.full_bf16",
    }
)


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names the adapter's module and the base."""
    fields = kohya_options.laid_together(content)
    marks = {"network_module", "pretrained_model_name_or_path"}
    return fields if marks <= fields.keys() and "dit" not in fields else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the options tell."""
    found = {**kohya_options.common_settings(fields), **take(fields, KEYS)}
    full = [one for one in ("fp16", "bf16") if found.get(f"precision.full_{one}") is True]
    return {**found, "precision.adapter": full[0] if full else "fp32"}
