"""Transformers' TrainingArguments, as a JSON or YAML file or as a script's command line.

Source: transformers/training_args.py and hf_argparser.py of
https://github.com/huggingface/transformers; what describes the model and the adapter is that of
`ModelConfig` in trl/trainer/model_config.py of https://github.com/huggingface/trl, and of the
example scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER, LATEST, OUTPUT, RESUME
from sentinel.formats.configs.values import (
    arguments_of,
    precision_of_text,
    take,
    text_of,
    truth_of,
)
from sentinel.formats.settings import Setting, flatten
from sentinel.formats.training_arguments import ARGUMENTS as TRAINED

TRAINER = "transformers"
LOOKS_FOR = (
    "Transformers' arguments (output_dir beside per_device_train_batch_size, optim, fp16, ...)"
)
PROGRAMS: frozenset[str] = frozenset()
FILE_OPTIONS: tuple[str, ...] = ("", "config")

ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        **{name: setting for name, setting in TRAINED.items() if setting != RESUME},
        "fp16": "precision.fp16",
        "bf16": "precision.bf16",
        "warmup_steps": "scheduler.warmup_steps",
        "warmup_ratio": "scheduler.warmup_ratio",
        "output_dir": OUTPUT,
    }
)
"""Fields of TrainingArguments and the settings they are, as in a checkpoint and beyond."""

MODEL: Mapping[str, str] = MappingProxyType(
    {
        "model_name_or_path": "base.path",
        "lora_r": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "lora_target_modules": "adapter.targets",
        "lora_modules_to_save": "adapter.modules_to_save",
        "lora_task_type": "adapter.task",
        "use_rslora": "adapter.rslora",
    }
)
"""Fields of TRL's ModelConfig and the settings they are."""

_RESUME = "resume_from_checkpoint"
_PACKED: Mapping[str, str] = MappingProxyType({"load_in_4bit": "nf4", "load_in_8bit": "int8"})
_DTYPES = ("dtype", "torch_dtype")
_MARKS = frozenset(ARGUMENTS) - {"learning_rate", "seed", "weight_decay", "output_dir"}
_ENOUGH = 2


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names an output directory and two more of the arguments."""
    return content if "output_dir" in content and len(_MARKS & set(content)) >= _ENOUGH else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return the options; the parser takes no assignments."""
    return options.named


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the arguments tell, about the model and the adapter too."""
    found = {**argument_settings(fields), **take(fields, MODEL)}
    if truth_of(fields.get("use_peft")) or "adapter.rank" in found:
        found["adapter.method"] = "dora" if truth_of(fields.get("use_dora")) else "lora"
    dtype = next(filter(None, (precision_of_text(fields.get(name)) for name in _DTYPES)), None)
    if dtype not in {None, "no"}:
        found["base.dtype"] = str(dtype)
    for switch, scheme in _PACKED.items():
        if truth_of(fields.get(switch)):
            found["base.quantization"] = scheme
    adapter = text_of(fields.get("adapter_name_or_path"))
    if adapter:
        found[ADAPTER] = adapter
    return found


def argument_settings(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the TrainingArguments among some fields tell."""
    found = take(fields, ARGUMENTS)
    found |= arguments_of(fields.get("optim_args"))
    if isinstance(fields.get("lr_scheduler_kwargs"), dict):
        found |= flatten("scheduler.args", fields["lr_scheduler_kwargs"])
    found |= mixed_settings(found)
    if str(found.get("optimizer.name", "")) == "adafactor":
        # What the Trainer hands to it whatever else is asked for.
        found |= {"optimizer.args.scale_parameter": False, "optimizer.args.relative_step": False}
    resume = fields.get(_RESUME)
    path = LATEST if truth_of(resume) is True else text_of(resume)
    if path and truth_of(resume) is not False:
        found[RESUME] = path
    if isinstance(fields.get("deepspeed"), str | dict):
        found["training.deepspeed"] = True
    return found


def mixed_settings(found: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the autocast's precision out of the two switches, nothing when neither was told."""
    told = [name for name in ("fp16", "bf16") if f"precision.{name}" in found]
    if not told:
        return {}
    on = next((name for name in told if found[f"precision.{name}"] is True), None)
    if on is None:
        return {"precision.mixed": "no"} if len(told) > 1 else {}
    return {"precision.mixed": on, "precision.training": on}
