"""ai-toolkit's job, `config.yaml` beside its saves, as settings.

Source: toolkit/config_modules.py and jobs/process/BaseTrainProcess.py of
https://github.com/ostris/ai-toolkit. The file is written anew whenever the job starts, so it says
nothing about a save that is older. It holds what the user wrote; defaults are not filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.scalars import as_count, as_finite, as_text
from sentinel.formats.settings import Setting, flatten

NAME = "config.yaml"

_PRECISIONS: Mapping[str, str] = MappingProxyType(
    {
        "fp32": "fp32",
        "float32": "fp32",
        "float": "fp32",
        "fp16": "fp16",
        "float16": "fp16",
        "half": "fp16",
        "bf16": "bf16",
        "bfloat16": "bf16",
    }
)
_FIELDS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("model", "name_or_path"): "base.path",
        ("model", "arch"): "base.architecture",
        ("network", "dropout"): "adapter.dropout",
        ("network", "linear"): "adapter.rank",
        ("network", "rank"): "adapter.rank",
        ("train", "batch_size"): "training.batch_size",
        ("train", "gradient_checkpointing"): "training.gradient_checkpointing",
        ("train", "lr"): "optimizer.learning_rate",
        ("train", "lr_scheduler"): "scheduler.name",
        ("train", "max_grad_norm"): "training.max_grad_norm",
        ("train", "steps"): "training.max_steps",
        ("save", "save_every"): "training.save_steps",
        ("save", "max_step_saves_to_keep"): "training.save_total_limit",
    }
)
_ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "optimizer.args.eps": "optimizer.eps",
        "optimizer.args.weight_decay": "optimizer.weight_decay",
    }
)
_WARM_FROM_THE_START = frozenset({"constant", "cosine", "cosine_with_restarts", "linear", "step"})
"""Schedules of toolkit/scheduler.py whose first rate is above zero."""

_DEFAULT_WARMUP = 1000


def process_of(job: Mapping[str, object], name: str | None) -> Mapping[str, object]:
    """Return the one process of a job that saves under a name, empty when it is none."""
    config = _section(job, "config")
    processes = config.get("process")
    if name is None or as_text(config.get("name")) != name or not isinstance(processes, list):
        return {}
    known = [one for one in processes if isinstance(one, dict)]
    return known[0] if len(known) == 1 else {}


def settings_of(process: Mapping[str, object]) -> dict[str, Setting]:
    """Return the settings of a process by dotted name."""
    found: dict[str, Setting] = {}
    for (section, field), name in _FIELDS.items():
        found |= flatten(name, _section(process, section).get(field))
    model, train = _section(process, "model"), _section(process, "train")
    method = as_text(_section(process, "network").get("type"))
    optimizer = as_text(train.get("optimizer"))
    texts = {
        "adapter.method": method.lower() if method else None,
        "optimizer.name": optimizer.lower() if optimizer else None,
        "precision.training": _precision(train.get("dtype")),
        "precision.output": _precision(_section(process, "save").get("dtype")),
        "base.quantization": _quantization(model),
    }
    found |= {name: text for name, text in texts.items() if text is not None}
    batches = _accumulation(train)
    if batches is not None:
        found["training.gradient_accumulation_steps"] = batches
    arguments = flatten("optimizer.args", train.get("optimizer_params"))
    return {**found, **{_ARGUMENTS.get(name, name): value for name, value in arguments.items()}}


def updates_of(step: int | None, process: Mapping[str, object]) -> int | None:
    """Return updates surely done at a step, None when nothing proves one.

    ai-toolkit counts batches from zero, and its rates are above zero except in a warm-up.
    """
    train = _section(process, "train")
    rate, batches = as_finite(train.get("lr")), _accumulation(train)
    if step is None or not rate or rate < 0 or not batches:
        return None
    schedule = as_text(train.get("lr_scheduler", "constant")) or ""
    if schedule in _WARM_FROM_THE_START:
        return step // batches or None
    if schedule != "constant_with_warmup":
        return None
    warmup = _section(train, "lr_scheduler_params").get("num_warmup_steps", _DEFAULT_WARMUP)
    updates = step // batches - (as_count(warmup) or 0)
    return updates if updates > 0 and as_count(warmup) is not None else None


def _accumulation(train: Mapping[str, object]) -> int | None:
    """Return the steps an update, 1 where nothing is said; None for -1, a whole epoch."""
    return as_count(train.get("gradient_accumulation_steps", 1)) or None


def _quantization(model: Mapping[str, object]) -> str | None:
    """Return the scheme of the trained network's weights, "none" for plain ones."""
    if not model:
        return None
    return (as_text(model.get("qtype")) or "qfloat8") if model.get("quantize") is True else "none"


def _precision(value: object) -> str | None:
    return _PRECISIONS.get(as_text(value) or "")


def _section(content: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = content.get(name)
    return value if isinstance(value, dict) else {}
