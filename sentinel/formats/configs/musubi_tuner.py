"""musubi-tuner's trainings: TOML for `--config_file`, or a command line.

Source: src/musubi_tuner/training/trainer_base.py of https://github.com/kohya-ss/musubi-tuner, which
trains the adapter in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.formats.configs import kohya_options
from sentinel.formats.configs.options import Options
from sentinel.formats.configs.values import take
from sentinel.formats.settings import Setting

TRAINER = "musubi-tuner"
LOOKS_FOR = "musubi-tuner's options (network_module beside dit)"
PROGRAMS = frozenset(
    {
        "flux_2_train_network.py",
        "flux_kontext_train_network.py",
        "fpack_train_network.py",
        "hidream_o1_train_network.py",
        "hv_1_5_train_network.py",
        "hv_train_network.py",
        "ideogram4_train_network.py",
        "kandinsky5_train_network.py",
        "krea2_train_network.py",
        "qwen_image_train_network.py",
        "wan_train_network.py",
        "zimage_train_network.py",
    }
)
FILE_OPTIONS: tuple[str, ...] = ("config_file",)

KEYS: Mapping[str, str] = {"dit": "base.path"}


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names the adapter's module and a diffusion transformer."""
    fields = kohya_options.laid_together(content)
    return fields if {"network_module", "dit"} <= fields.keys() else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the options tell."""
    found = {**kohya_options.common_settings(fields), **take(fields, KEYS)}
    return {**found, "precision.adapter": "fp32"}
