"""OneTrainer's JSON: a configuration, a preset, or `scripts/train.py --config-path`.

Source: modules/util/config/TrainConfig.py and modules/util/args/TrainArgs.py of
https://github.com/Nerogar/OneTrainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER, LATEST, OUTPUT, RESUME
from sentinel.formats.configs.values import number_of, take, text_of, truth_of
from sentinel.formats.onetrainer_config import settings_of as checkpoint_settings
from sentinel.formats.settings import Setting

TRAINER = "onetrainer"
LOOKS_FOR = "OneTrainer's JSON (training_method, train_dtype, lora_weight_dtype)"
PROGRAMS: frozenset[str] = frozenset()
FILE_OPTIONS: tuple[str, ...] = ("config_path",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "batch_size": "training.batch_size",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "epochs": "training.epochs",
        "clip_grad_norm": "training.max_grad_norm",
        "lora_model_name": ADAPTER,
        "workspace_dir": OUTPUT,
    }
)
OTHERS = ("continue_last_backup", "learning_rate_warmup_steps", "training_method")
"""Further fields that are read; tests hold that the trainer has them all."""

_MARKS = frozenset({"training_method", "train_dtype", "lora_weight_dtype", "output_model_format"})
_ENOUGH = 2
_LORA = "LORA"
_OVERRIDES = "config_value"


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what has two of the fields that only OneTrainer spells so."""
    return content if len(_MARKS & set(content)) >= _ENOUGH else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return what `--config-value KEY=VALUE` overrides; dots lead into parts.

    Until 2025 each field was an option of its own (`--lora-weight-dtype FLOAT_16`).
    """
    fields: dict[str, object] = dict(options.named)
    if isinstance(fields.get("optimizer"), str):
        fields["optimizer"] = {"optimizer": fields["optimizer"]}
    for pair in options.every.get(_OVERRIDES, ()):
        name, equals, value = pair.partition("=")
        part, dot, inner = name.partition(".")
        if equals and dot:
            held = fields.setdefault(part, {})
            if isinstance(held, dict):
                held[inner] = value
        elif equals:
            fields[name] = value
    return fields


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the fields tell; of an adapter only where one is trained."""
    numbers = {
        name: number_of(fields[name]) for name in ("learning_rate", "lora_alpha") if name in fields
    }
    found = {**take(fields, KEYS), **checkpoint_settings({**fields, **numbers})}
    mixed = found.get("precision.mixed")
    if mixed is not None:
        found["precision.training"] = mixed
    warmup = number_of(fields.get("learning_rate_warmup_steps"))
    if warmup is not None:
        # A number up to 1 is a share of the whole training.
        is_share = 0 < warmup <= 1
        name = "scheduler.warmup_ratio" if is_share else "scheduler.warmup_steps"
        found[name] = warmup if is_share else int(warmup)
    if (text_of(fields.get("training_method")) or _LORA) != _LORA:
        found = {name: value for name, value in found.items() if not _is_of_adapter(name)}
    if truth_of(fields.get("continue_last_backup")):
        found[RESUME] = LATEST
    return found


def _is_of_adapter(name: str) -> bool:
    return name.startswith("adapter.") or name in {"precision.adapter", ADAPTER}
