"""Axolotl's YAML.

Source: src/axolotl/utils/schemas/*.py of https://github.com/axolotl-ai-cloud/axolotl. `bf16: auto`
asks the device, so the precision is not known from the file; `bf16: full` casts everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs import transformers
from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER, OUTPUT
from sentinel.formats.configs.values import arguments_of, take, text_of, truth_of
from sentinel.formats.settings import Setting

TRAINER = "axolotl"
LOOKS_FOR = "Axolotl's YAML (base_model beside datasets, adapter, micro_batch_size, ...)"
PROGRAMS = frozenset({"axolotl", "axolotl.cli.train"})
FILE_OPTIONS: tuple[str, ...] = ("",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "base_model": "base.path",
        "lora_r": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "lora_target_modules": "adapter.targets",
        "lora_modules_to_save": "adapter.modules_to_save",
        "peft_use_rslora": "adapter.rslora",
        "peft_init_lora_weights": "adapter.init",
        "lora_model_dir": ADAPTER,
        "optimizer": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "weight_decay": "optimizer.weight_decay",
        "adam_beta1": "optimizer.beta1",
        "adam_beta2": "optimizer.beta2",
        "adam_epsilon": "optimizer.eps",
        "lr_scheduler": "scheduler.name",
        "warmup_steps": "scheduler.warmup_steps",
        "warmup_ratio": "scheduler.warmup_ratio",
        "micro_batch_size": "training.batch_size",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "max_grad_norm": "training.max_grad_norm",
        "max_steps": "training.max_steps",
        "num_epochs": "training.epochs",
        "save_steps": "training.save_steps",
        "save_total_limit": "training.save_total_limit",
        "save_only_model": "training.save_only_model",
        "logging_steps": "training.logging_steps",
        "seed": "training.seed",
        "tf32": "precision.tf32",
        "output_dir": OUTPUT,
    }
)
OTHERS = (
    "adapter",
    "peft_use_dora",
    "peft_autocast_adapter_dtype",
    "load_in_4bit",
    "load_in_8bit",
    "gptq",
    "bf16",
    "fp16",
    "bfloat16",
    "float16",
    "optim_args",
    "resume_from_checkpoint",
    "deepspeed",
)
"""Further fields that are read; tests hold that the trainer has them all."""

_MARKS = frozenset({"datasets", "adapter", "micro_batch_size", "sequence_len", "num_epochs"})
_FULL = "full"


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names a base and two more of Axolotl's own fields."""
    return content if "base_model" in content and len(_MARKS & set(content)) > 1 else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options, whose names are those of the fields."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the fields tell."""
    found = {**take(fields, KEYS), **arguments_of(fields.get("optim_args"))}
    found |= transformers.argument_settings(
        {key: fields[key] for key in ("resume_from_checkpoint", "deepspeed") if key in fields}
    )
    kind = text_of(fields.get("adapter"))
    if kind in {"lora", "qlora"}:
        found["adapter.method"] = "dora" if truth_of(fields.get("peft_use_dora")) else "lora"
    scheme = _scheme(fields)
    if scheme:
        found["base.quantization"] = scheme
    if str(found.get("optimizer.name", "")) == "adafactor":
        found = {
            "optimizer.args.scale_parameter": False,
            "optimizer.args.relative_step": False,
            **found,
        }
    return {**found, **_precision(fields)}


def _precision(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return the precision; without a word about it, or with `auto`, nothing is known."""
    full = [
        precision
        for precision, name in (("bf16", "bfloat16"), ("fp16", "float16"))
        if truth_of(fields.get(name)) or fields.get(precision) == _FULL
    ]
    if full:
        return {f"precision.full_{full[0]}": True, "precision.training": full[0]}
    switches = {
        f"precision.{name}": value
        for name in ("fp16", "bf16")
        if (value := truth_of(fields.get(name))) is not None
    }
    mixed = transformers.mixed_settings(switches)
    found: dict[str, Setting] = {**switches, **mixed}
    autocast = truth_of(fields.get("peft_autocast_adapter_dtype"))
    if autocast is False and mixed.get("precision.mixed") in {"fp16", "bf16"}:
        found["precision.adapter"] = mixed["precision.mixed"]
    return found


def _scheme(fields: Mapping[str, object]) -> str | None:
    if truth_of(fields.get("load_in_4bit")):
        return "nf4"
    if truth_of(fields.get("load_in_8bit")):
        return "int8"
    return "gptq" if truth_of(fields.get("gptq")) else None
