"""MiniCPM-V's own fine-tuning script, called by `finetune_lora.sh` and `finetune_ds.sh`.

Source: finetune/finetune.py of https://github.com/OpenBMB/MiniCPM-V. The base is loaded in the
precision of the autocast, and modules that are trained whole stay in it. `trainer.train()` is
called without an argument, so `--resume_from_checkpoint` is read and not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs import transformers
from sentinel.formats.configs.options import Options
from sentinel.formats.configs.values import take, truth_of
from sentinel.formats.settings import Setting

TRAINER = "minicpm-v"
LOOKS_FOR = "MiniCPM-V's script (finetune.py with --llm_type, --tune_vision or --max_slice_nums)"
PROGRAMS: frozenset[str] = frozenset()
FILE_OPTIONS: tuple[str, ...] = ()

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "model_name_or_path": "base.path",
        "lora_r": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "lora_bias": "adapter.bias",
        "lora_target_modules": "adapter.targets",
    }
)
SWITCHES = ("use_lora", "q_lora", "tune_vision", "tune_llm")
"""Further fields that are read; tests hold that the script has them all."""

_MARKS = frozenset({"llm_type", "tune_vision", "tune_llm", "max_slice_nums"})


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what has fields that only this script has."""
    return content if len(_MARKS & set(content)) > 1 else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options; the parser takes no assignments."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the options tell, and what the script itself makes of them."""
    found = {**transformers.argument_settings(fields), **take(fields, KEYS)}
    mixed = str(found.get("precision.mixed", ""))
    if mixed:
        found["base.dtype"] = mixed if mixed in {"fp16", "bf16"} else "fp32"
    if truth_of(fields.get("use_lora")) is not True:
        return {name: value for name, value in found.items() if not name.startswith("adapter.")}
    whole = ["embed_tokens", "resampler"]
    if truth_of(fields.get("tune_vision")) is not False:
        whole.append("vpm")
    found |= {"adapter.method": "lora", "adapter.modules_to_save": json.dumps(whole)}
    if truth_of(fields.get("q_lora")):
        found["base.quantization"] = "nf4"
    return found
