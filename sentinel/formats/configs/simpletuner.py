"""SimpleTuner's `config.json`, `config.toml`, `config.env`, or `simpletuner train --...`.

Source: documentation/OPTIONS.md, simpletuner/helpers/configuration/{cmd_args,env_file}.py of
https://github.com/bghira/SimpleTuner. Keys stand with or without leading dashes. The adapter has
the precision that the rest computes in (`weight_dtype`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER, OUTPUT, RESUME
from sentinel.formats.configs.values import (
    arguments_of,
    number_of,
    precision_of_text,
    take,
    text_of,
    truth_of,
)
from sentinel.formats.settings import Setting

TRAINER = "simpletuner"
LOOKS_FOR = "SimpleTuner's configuration (model_family or data_backend_config)"
PROGRAMS = frozenset({"simpletuner", "simpletuner.train", "simpletuner.cli"})
FILE_OPTIONS: tuple[str, ...] = ()

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "pretrained_model_name_or_path": "base.path",
        "lora_rank": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "lora_init_type": "adapter.init",
        "init_lora": ADAPTER,
        "optimizer": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "text_encoder_lr": "optimizer.text_encoder_learning_rate",
        "optimizer_beta1": "optimizer.beta1",
        "optimizer_beta2": "optimizer.beta2",
        "lr_scheduler": "scheduler.name",
        "lr_warmup_steps": "scheduler.warmup_steps",
        "train_batch_size": "training.batch_size",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "max_grad_norm": "training.max_grad_norm",
        "max_train_steps": "training.max_steps",
        "num_train_epochs": "training.epochs",
        "checkpoint_step_interval": "training.save_steps",
        "checkpointing_steps": "training.save_steps",
        "checkpoints_total_limit": "training.save_total_limit",
        "seed": "training.seed",
        "output_dir": OUTPUT,
    }
)
OTHERS = (
    "base_model_precision",
    "lora_type",
    "mixed_precision",
    "model_type",
    "optimizer_config",
    "resume_from_checkpoint",
    "use_dora",
)
"""Further fields that are read; tests hold that the trainer has them all."""

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "BASE_MODEL_PRECISION": "base_model_precision",
        "CHECKPOINTING_LIMIT": "checkpoints_total_limit",
        "CHECKPOINTING_STEPS": "checkpoint_step_interval",
        "CHECKPOINT_STEP_INTERVAL": "checkpoint_step_interval",
        "DATALOADER_CONFIG": "data_backend_config",
        "GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
        "LEARNING_RATE": "learning_rate",
        "LORA_TYPE": "lora_type",
        "LR_SCHEDULE": "lr_scheduler",
        "LR_WARMUP_STEPS": "lr_warmup_steps",
        "MAX_NUM_STEPS": "max_train_steps",
        "MIXED_PRECISION": "mixed_precision",
        "MODEL_FAMILY": "model_family",
        "MODEL_NAME": "pretrained_model_name_or_path",
        "MODEL_TYPE": "model_type",
        "NUM_EPOCHS": "num_train_epochs",
        "OPTIMIZER": "optimizer",
        "OUTPUT_DIR": "output_dir",
        "RESUME_CHECKPOINT": "resume_from_checkpoint",
        "TRAINING_SEED": "seed",
        "TRAIN_BATCH_SIZE": "train_batch_size",
        "USE_DORA": "use_dora",
        "USE_GRADIENT_CHECKPOINTING": "gradient_checkpointing",
    }
)
"""Variables of `config.env` and the options they become."""

_MARKS = frozenset({"model_family", "data_backend_config"})
_NOT_PACKED = frozenset({"no_change", "fp32", "fp16", "bf16"})


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names a family of models or a data backend, as options or as variables."""
    bare = {key.lstrip("-"): value for key, value in content.items()}
    renamed = {ENVIRONMENT[key]: value for key, value in bare.items() if key in ENVIRONMENT}
    fields = {**renamed, **bare}
    return fields if _MARKS & fields.keys() else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the options tell."""
    found = {**take(fields, KEYS), **arguments_of(fields.get("optimizer_config"))}
    mixed = precision_of_text(fields.get("mixed_precision"))
    if mixed:
        found |= {
            "precision.mixed": mixed,
            "precision.training": "fp32" if mixed == "no" else mixed,
        }
    packed = (text_of(fields.get("base_model_precision")) or "").lower()
    if packed:
        found["base.quantization"] = "none" if packed in _NOT_PACKED else packed
    if (text_of(fields.get("model_type")) or "lora") == "lora":
        found |= _adapter(fields, mixed)
    else:
        found = {name: value for name, value in found.items() if not name.startswith("adapter.")}
    resume = text_of(fields.get("resume_from_checkpoint"))
    if resume:
        found[RESUME] = resume
    return found


def _adapter(fields: Mapping[str, object], mixed: str | None) -> dict[str, Setting]:
    kind = (text_of(fields.get("lora_type")) or "standard").lower()
    method = "dora" if truth_of(fields.get("use_dora")) else "lora"
    found: dict[str, Setting] = {"adapter.method": "lycoris" if kind == "lycoris" else method}
    if mixed in {"fp16", "bf16"}:
        found["precision.adapter"] = mixed
    elif mixed == "no" and number_of(fields.get("lora_rank")) is not None:
        found["precision.adapter"] = "fp32"
    return found
