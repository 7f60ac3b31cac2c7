"""What sd-scripts, musubi-tuner and LyCORIS tell in a header's metadata, every value a string.

Source: train_network.py of https://github.com/kohya-ss/sd-scripts and
src/musubi_tuner/training/trainer_base.py of https://github.com/kohya-ss/musubi-tuner. Python's
`str` wrote the values, so nothing is spelt "None".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.python_call import Argument, call_of
from sentinel.formats.scalars import as_count, brief
from sentinel.formats.settings import Setting

_MOST_STEPS = 2**53
SD_SCRIPTS = "sd-scripts"
MUSUBI = "musubi-tuner"

_MUSUBI_BASES = frozenset(
    {
        "hunyuan_video",
        "hunyuan_video_1_5",
        "wan",
        "framepack",
        "flux_kontext",
        "flux_2_dev",
        "flux_2_klein_4b",
        "flux_2_klein_9b",
        "qwen_image",
        "qwen_image_edit",
        "qwen_image_layered",
        "kandinsky5",
        "z_image",
        "hidream_o1_image",
        "ideogram4",
        "krea2",
    }
)
"""`ss_base_model_version` of musubi-tuner (src/musubi_tuner/dataset/architectures.py)."""

_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "ss_mixed_precision": "precision.mixed",
        "ss_lr_scheduler": "scheduler.name",
        "ss_network_module": "adapter.network_module",
        "ss_sd_model_name": "base.path",
        "ss_base_model_version": "base.version",
        "ss_sd_scripts_commit_hash": "versions.sd_scripts",
    }
)
_SWITCHES: Mapping[str, str] = MappingProxyType(
    {
        "ss_full_fp16": "precision.full_fp16",
        "ss_full_bf16": "precision.full_bf16",
        "ss_fp8_base": "precision.fp8_base",
        "ss_gradient_checkpointing": "training.gradient_checkpointing",
    }
)
_NUMBERS: Mapping[str, str] = MappingProxyType(
    {
        "ss_network_dim": "adapter.rank",
        "ss_network_alpha": "adapter.alpha",
        "ss_network_dropout": "adapter.dropout",
        "ss_learning_rate": "optimizer.learning_rate",
        "ss_unet_lr": "optimizer.unet_learning_rate",
        "ss_text_encoder_lr": "optimizer.text_encoder_learning_rate",
        "ss_max_grad_norm": "training.max_grad_norm",
        "ss_max_train_steps": "training.max_steps",
        "ss_num_epochs": "training.epochs",
    }
)
_COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "ss_seed": "training.seed",
        "ss_gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "ss_batch_size_per_device": "training.batch_size",
    }
)
_OPTIMIZER: Mapping[str, str] = MappingProxyType(
    {
        "eps": "optimizer.eps",
        "weight_decay": "optimizer.weight_decay",
        "betas.0": "optimizer.beta1",
        "betas.1": "optimizer.beta2",
    }
)
_METHODS = ("lora_fa", "dylora", "loha", "lokr", "oft", "lora")
"""Beginnings of the last part of a network module's name, the longer one first."""
_ALPHA_ARGUMENTS = ("block_alphas", "conv_block_alphas", "preset")
"""Network arguments that give single blocks or modules an alpha of their own; a preset is a file
of LyCORIS that may."""


def trainer_of(metadata: Mapping[str, str]) -> str | None:
    """Return who wrote a file with this metadata, None when nothing tells.

    Both trainers have modules of one name; musubi-tuner counts items where sd-scripts counts
    images, and sd-scripts writes its commit, also with `--no_metadata`.
    """
    if metadata.get("modelspec.implementation_version", "").startswith(f"{SD_SCRIPTS}/"):
        return SD_SCRIPTS
    if "ss_num_train_items" in metadata or metadata.get("ss_base_model_version") in _MUSUBI_BASES:
        return MUSUBI
    return SD_SCRIPTS if "ss_network_module" in metadata else None


def step_of(metadata: Mapping[str, str]) -> int | None:
    """Return the updates this process had made; a resume begins to count anew."""
    return as_count(metadata.get("ss_steps"))


def epoch_of(metadata: Mapping[str, str]) -> float | None:
    """Return the epoch, which saves inside an epoch count from zero."""
    epoch = as_count(metadata.get("ss_epoch"))
    return None if epoch is None else float(epoch)


def updates_of(metadata: Mapping[str, str]) -> int | None:
    """Return the steps after the warm-up: those surely had a learning rate above zero.

    A warm-up below 1 is a share of the whole training.
    """
    steps, warmup = step_of(metadata), _finite(metadata.get("ss_lr_warmup_steps"))
    if steps is None or warmup is None:
        return None
    if 0 < warmup < 1:
        warmup *= _finite(metadata.get("ss_max_train_steps")) or steps
    updates = steps - int(warmup) if warmup < steps else 0
    return updates or None


def adapter_of(metadata: Mapping[str, str]) -> AdapterConfig:
    """Return the adapter; its alpha lies beside each module's matrices."""
    return AdapterConfig(
        rank=as_count(metadata.get("ss_network_dim")),
        init="scalar" if _is_true(_network_arguments(metadata).get("use_scalar")) else "default",
    )


def settings_of(metadata: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings by dotted name."""
    found: dict[str, Setting | None] = {}
    for key, name in _TEXTS.items():
        found[name] = _text(metadata.get(key))
    for key, name in _SWITCHES.items():
        found[name] = {"True": True, "False": False}.get(metadata.get(key, ""))
    for key, name in _NUMBERS.items():
        found[name] = _number(metadata.get(key))
    for key, name in _COUNTS.items():
        found[name] = as_count(metadata.get(key))
    found["adapter.method"] = _method(metadata)
    found["adapter.alpha_pattern"] = _alpha_pattern(metadata)
    found["precision.adapter"] = _adapter_precision(metadata)
    found["base.quantization"] = _quantization(metadata)
    warmup = _finite(metadata.get("ss_lr_warmup_steps"))
    if warmup is not None and 0 < warmup < 1:
        found["scheduler.warmup_ratio"] = warmup
    elif warmup is not None:
        found["scheduler.warmup_steps"] = int(warmup)
    found |= _optimizer(metadata.get("ss_optimizer", ""))
    return {name: value for name, value in found.items() if value is not None}


def _optimizer(text: str) -> dict[str, Setting]:
    """Return name and arguments of ``package.module.Name(k=v,...)``, the name in lower case."""
    call = call_of(text)
    if call is None:
        return {}
    found: dict[str, Setting] = {"optimizer.name": call.name.rpartition(".")[2].lower()}
    for key, value in call.arguments.items():
        for leaf, inner in _leaves(key, value):
            found[_OPTIMIZER.get(leaf, f"optimizer.args.{leaf}")] = inner
    return found


def _leaves(key: str, value: Argument) -> list[tuple[str, Setting]]:
    if isinstance(value, tuple):
        return [(f"{key}.{at}", inner) for at, inner in enumerate(value) if inner is not None]
    return [] if value is None else [(key, value)]


def _method(metadata: Mapping[str, str]) -> str | None:
    module = metadata.get("ss_network_module", "")
    if module.startswith("lycoris"):
        arguments = _network_arguments(metadata)
        return (
            "dora" if _is_true(arguments.get("dora_wd")) else brief(arguments.get("algo", "lora"))
        )
    last = module.rpartition(".")[2]
    return next((name for name in _METHODS if last.startswith(name)), None)


def _alpha_pattern(metadata: Mapping[str, str]) -> str | None:
    arguments = _network_arguments(metadata)
    told = {name: brief(arguments[name]) for name in _ALPHA_ARGUMENTS if name in arguments}
    return json.dumps(told) if told else None


def _adapter_precision(metadata: Mapping[str, str]) -> str | None:
    """Return the precision the adapter was trained in, which is not that of the file.

    musubi-tuner always trains it in fp32. sd-scripts does without `--full_fp16` and
    `--full_bf16`; only the former is written down, and the latter demands mixed bf16.
    """
    if trainer_of(metadata) == MUSUBI:
        return "fp32"
    full = metadata.get("ss_full_fp16")
    if full == "True":
        return "fp16"
    return "fp32" if full == "False" and metadata.get("ss_mixed_precision") != "bf16" else None


def _quantization(metadata: Mapping[str, str]) -> str | None:
    said = {metadata.get("ss_fp8_base"), metadata.get("ss_fp8_base_unet")}
    if "True" in said:
        return "fp8"
    return "none" if "False" in said else None


def _network_arguments(metadata: Mapping[str, str]) -> Mapping[str, object]:
    try:
        arguments = json.loads(metadata.get("ss_network_args", ""))
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _is_true(value: object) -> bool:
    return brief(value).lower() in {"true", "1"}


def _text(text: str | None) -> str | None:
    return None if text == "None" else text


def _number(text: str | None) -> float | None:
    """Return a number, also the only one of a list: sd-scripts takes several rates."""
    try:
        return float((text or "").removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _finite(text: str | None) -> float | None:
    """Return a number of steps, or a share of them."""
    number = _number(text)
    return number if number is not None and 0 <= number <= _MOST_STEPS else None
