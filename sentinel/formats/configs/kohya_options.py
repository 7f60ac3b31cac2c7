"""Options that sd-scripts and musubi-tuner share, as TOML or on a command line.

Source: library/train_util.py and train_network.py of https://github.com/kohya-ss/sd-scripts,
training/*.py of https://github.com/kohya-ss/musubi-tuner. Sections of the TOML are laid together,
their names mean nothing; the command line overrides the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.reader import ADAPTER, OUTPUT, RESUME
from sentinel.formats.configs.values import (
    arguments_of,
    precision_of_text,
    take,
    text_of,
    truth_of,
)
from sentinel.formats.settings import Setting

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "network_dim": "adapter.rank",
        "network_alpha": "adapter.alpha",
        "network_dropout": "adapter.dropout",
        "network_weights": ADAPTER,
        "resume": RESUME,
        "optimizer_type": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "lr_scheduler": "scheduler.name",
        "lr_warmup_steps": "scheduler.warmup_steps",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "max_grad_norm": "training.max_grad_norm",
        "max_train_steps": "training.max_steps",
        "max_train_epochs": "training.epochs",
        "save_every_n_steps": "training.save_steps",
        "seed": "training.seed",
        "output_dir": OUTPUT,
    }
)
OTHERS = (
    "fp8_base",
    "mixed_precision",
    "network_args",
    "network_module",
    "optimizer_args",
    "save_precision",
)
"""Further options that are read; tests hold that both trainers have them all."""

_ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {"lora": "lora", "locon": "lora", "diag-oft": "oft", "dylora": "lora"}
)


def laid_together(content: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of all sections in one mapping, as the trainers read them."""
    fields: dict[str, object] = {}
    for name, value in content.items():
        fields |= value if isinstance(value, dict) else {name: value}
    return fields


def common_settings(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the shared options tell."""
    found = {**take(fields, KEYS), **arguments_of(fields.get("optimizer_args"))}
    mixed = precision_of_text(fields.get("mixed_precision"))
    if mixed:
        found |= {
            "precision.mixed": mixed,
            "precision.training": "fp32" if mixed == "no" else mixed,
        }
    output = precision_of_text(fields.get("save_precision"))
    if output:
        found["precision.output"] = output
    if truth_of(fields.get("fp8_base")):
        found["base.quantization"] = "fp8"
    if str(found.get("optimizer.name", "")).lower() == "adafactor":
        # What Transformers' Adafactor does where nothing else is asked for.
        defaults = ("optimizer.args.scale_parameter", "optimizer.args.relative_step")
        found = {**dict.fromkeys(defaults, True), **found}
    return {**found, **_method(fields)}


def _method(fields: Mapping[str, object]) -> dict[str, Setting]:
    module = (text_of(fields.get("network_module")) or "").lower()
    if not module:
        return {}
    arguments = arguments_of(fields.get("network_args"))
    if module.startswith("lycoris"):
        algorithm = str(arguments.get("optimizer.args.algo", "lora")).lower()
        method = _ALGORITHMS.get(algorithm, algorithm)
        is_dora = truth_of(arguments.get("optimizer.args.dora_wd"))
        return {"adapter.method": "dora" if is_dora and method == "lora" else method}
    return {"adapter.method": "oft" if ".oft" in module else "lora"}
