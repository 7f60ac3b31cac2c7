"""What Axolotl and LLaMA-Factory leave beside their checkpoints of how they were started.

Axolotl writes its whole configuration into `debug.log` at every start, as the JSON after a line
that ends with `config:` (src/axolotl/cli/config.py of
https://github.com/axolotl-ai-cloud/axolotl). LLaMA-Factory's web interface writes
`training_args.yaml` before it starts a training (src/llamafactory/webui/common.py of
https://github.com/hiyouga/LLaMA-Factory); its command line leaves no file of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.files import open_regular
from sentinel.formats.scalars import as_count, as_text
from sentinel.formats.settings import Setting, flatten

if TYPE_CHECKING:
    from pathlib import Path

AXOLOTL_LOG = "debug.log"
LLAMA_FACTORY_ARGUMENTS = "training_args.yaml"

_LOG_LIMIT_BYTES = 64 * 1024 * 1024
_CONFIG_LIMIT_BYTES = 1024 * 1024
_CONFIG_BEGINS = b" config:\n{"
_CONFIG_ENDS = b"\n}\n"
_MOST_CONFIGS = 100

_SHARED: Mapping[str, str] = MappingProxyType(
    {
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "learning_rate": "optimizer.learning_rate",
        "logging_steps": "training.logging_steps",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "max_grad_norm": "training.max_grad_norm",
        "max_steps": "training.max_steps",
        "save_steps": "training.save_steps",
        "save_total_limit": "training.save_total_limit",
        "seed": "training.seed",
        "warmup_ratio": "scheduler.warmup_ratio",
        "warmup_steps": "scheduler.warmup_steps",
        "weight_decay": "optimizer.weight_decay",
    }
)
_AXOLOTL: Mapping[str, str] = MappingProxyType(
    {
        **_SHARED,
        "base_model": "base.path",
        "lora_r": "adapter.rank",
        "lr_scheduler": "scheduler.name",
        "micro_batch_size": "training.batch_size",
        "num_epochs": "training.epochs",
        "optimizer": "optimizer.name",
        "resume_from_checkpoint": "resume.path",
    }
)
_LLAMA_FACTORY: Mapping[str, str] = MappingProxyType(
    {
        **_SHARED,
        "lora_rank": "adapter.rank",
        "lr_scheduler_type": "scheduler.name",
        "model_name_or_path": "base.path",
        "num_train_epochs": "training.epochs",
        "optim": "optimizer.name",
        "per_device_train_batch_size": "training.batch_size",
        "resume_from_checkpoint": "resume.path",
    }
)


def axolotl_settings(path: Path) -> dict[str, Setting]:
    """Return the settings on which all configurations in the log at ``path`` agree.

    A resume may change them, and the log does not say which checkpoint was written under which.
    Nothing is returned where the log cannot be read to its end.
    """
    found = [_axolotl(config) for config in _configs(path)]
    if not found:
        return {}
    first, *later = found
    return {
        name: value
        for name, value in first.items()
        if all(name in one and one[name] == value for one in later)
    }


def llama_factory_settings(path: Path, *, written_ns: int) -> dict[str, Setting]:
    """Return what the web interface asked for, where it did so before ``written_ns``."""
    try:
        if path.stat().st_mtime_ns > written_ns:
            return {}
        # PyYAML is imported only where there is such a file.
        from sentinel.formats.containers.yaml_text import read_yaml_object  # noqa: PLC0415

        config = read_yaml_object(path)
    except (InputError, OSError):
        return {}
    found = _named(_LLAMA_FACTORY, config)
    bits = as_count(config.get("quantization_bit"))
    if bits is not None:
        kind = as_text(config.get("quantization_type")) or "nf4"
        method = as_text(config.get("quantization_method")) or "bnb"
        own = kind if bits == 4 else f"int{bits}"  # noqa: PLR2004 - bits a weight
        found["base.quantization"] = own if method == "bnb" else f"{method}-int{bits}"
    if config.get("pure_bf16") is True:
        found["precision.full_bf16"] = True
    return {**found, **_mixed(config)}


def _axolotl(config: Mapping[str, object]) -> dict[str, Setting]:
    found = _named(_AXOLOTL, config)
    if config.get("load_in_4bit") is True:
        options = config.get("bnb_config_kwargs")
        kind = options.get("bnb_4bit_quant_type") if isinstance(options, dict) else None
        found["base.quantization"] = as_text(kind) or "nf4"
    elif config.get("load_in_8bit") is True:
        found["base.quantization"] = "int8"
    return {**found, **_mixed(config)}


def _named(names: Mapping[str, str], config: Mapping[str, object]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for key, name in names.items():
        found |= flatten(name, config.get(key))
    return found


def _mixed(config: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the autocast was told, where the configuration says something about it."""
    for one in ("bf16", "fp16"):
        if config.get(one) is True:
            return {"precision.mixed": one}
    return {"precision.mixed": "no"} if config.get("bf16") is False else {}


def _configs(path: Path) -> Iterator[Mapping[str, object]]:
    """Yield the configurations in a log, none of one that is too long or holds too many."""
    try:
        with open_regular(path) as (file, size_bytes):
            text = file.read(_LOG_LIMIT_BYTES + 1) if size_bytes <= _LOG_LIMIT_BYTES else b""
    except InputError:
        return
    if text.count(_CONFIG_BEGINS) > _MOST_CONFIGS:
        return
    begin = text.find(_CONFIG_BEGINS)
    while begin >= 0:
        begin += len(_CONFIG_BEGINS) - 1
        end = text.find(_CONFIG_ENDS, begin, begin + _CONFIG_LIMIT_BYTES)
        yield _object(text[begin : end + 2] if end >= 0 else b"")
        begin = text.find(_CONFIG_BEGINS, begin)


def _object(raw: bytes) -> Mapping[str, object]:
    """Return an object of JSON; what is none agrees with nothing."""
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
