"""The command line of diffusers' example scripts that train a LoRA.

Source: examples/dreambooth and examples/text_to_image of https://github.com/huggingface/diffusers.
Under fp16 the scripts cast what is trained to fp32 (`cast_training_params`); a LoRA under bf16
stays as the base is loaded, in bf16.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import OUTPUT, RESUME
from sentinel.formats.configs.values import precision_of_text, take, text_of
from sentinel.formats.settings import Setting

TRAINER = "diffusers"
LOOKS_FOR = "the options of diffusers' LoRA scripts (checkpointing_steps, rank, mixed_precision)"
PROGRAMS: frozenset[str] = frozenset()
FILE_OPTIONS: tuple[str, ...] = ()

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "pretrained_model_name_or_path": "base.path",
        "rank": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "optimizer": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "text_encoder_lr": "optimizer.text_encoder_learning_rate",
        "adam_beta1": "optimizer.beta1",
        "adam_beta2": "optimizer.beta2",
        "adam_epsilon": "optimizer.eps",
        "adam_weight_decay": "optimizer.weight_decay",
        "lr_scheduler": "scheduler.name",
        "lr_warmup_steps": "scheduler.warmup_steps",
        "train_batch_size": "training.batch_size",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "max_grad_norm": "training.max_grad_norm",
        "max_train_steps": "training.max_steps",
        "num_train_epochs": "training.epochs",
        "checkpointing_steps": "training.save_steps",
        "checkpoints_total_limit": "training.save_total_limit",
        "resume_from_checkpoint": RESUME,
        "seed": "training.seed",
        "output_dir": OUTPUT,
    }
)
_MARKS = frozenset({"pretrained_model_name_or_path", "checkpointing_steps"})
_OWN = frozenset({"rank", "lora_alpha", "lora_layers", "mixed_precision", "instance_prompt"})


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names a base, how often a checkpoint is written, and one of the LoRA's options."""
    names = set(content)
    return content if names >= _MARKS and names & _OWN else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the options tell."""
    found = take(fields, KEYS)
    mixed = precision_of_text(fields.get("mixed_precision"))
    if mixed:
        found |= {
            "precision.mixed": mixed,
            "precision.training": "fp32" if mixed == "no" else mixed,
        }
    if text_of(fields.get("rank")) is not None:
        found["adapter.method"] = "lora"
        if mixed == "fp16":
            found["precision.adapter"] = "fp32"
    return found
