"""`training_args.bin`: the arguments that Transformers' Trainer was given, as settings.

Source: transformers/trainer.py (`TRAINING_ARGS_NAME`) and training_args.py of
https://github.com/huggingface/transformers, versions 4 and 5. The file is a pickle of an object;
nothing in it is run, its fields are taken as they lie there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from sentinel.formats.containers.numpy_scalars import numpy_scalar
from sentinel.formats.containers.pickle_nodes import Call
from sentinel.formats.scalars import as_finite, as_number, as_text
from sentinel.formats.settings import Setting, flatten

NAME = "training_args.bin"

ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "optim": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "adam_beta1": "optimizer.beta1",
        "adam_beta2": "optimizer.beta2",
        "adam_epsilon": "optimizer.eps",
        "weight_decay": "optimizer.weight_decay",
        "lr_scheduler_type": "scheduler.name",
        "tf32": "precision.tf32",
        "max_steps": "training.max_steps",
        "num_train_epochs": "training.epochs",
        "per_device_train_batch_size": "training.batch_size",
        "gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "gradient_checkpointing": "training.gradient_checkpointing",
        "max_grad_norm": "training.max_grad_norm",
        "label_smoothing_factor": "training.label_smoothing",
        "neftune_noise_alpha": "training.neftune_noise_alpha",
        "torch_compile": "training.compile",
        "seed": "training.seed",
        "logging_steps": "training.logging_steps",
        "logging_nan_inf_filter": "training.logging_nan_inf_filter",
        "save_steps": "training.save_steps",
        "save_total_limit": "training.save_total_limit",
        "save_only_model": "training.save_only_model",
        "ignore_data_skip": "resume.ignore_data_skip",
        "resume_from_checkpoint": "resume.path",
    }
)
"""Fields of TrainingArguments and the settings they are."""

_MIXED = ("fp16", "bf16")
_NESTED: Mapping[str, str] = MappingProxyType({"lr_scheduler_kwargs": "scheduler.args"})
_ENGINES = ("deepspeed", "fsdp")

_PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "axolotl": "axolotl",
        "llamafactory": "llama-factory",
        "sentence_transformers": "sentence-transformers",
        "swift": "ms-swift",
        "trl": "trl",
    }
)
"""Packages whose own class of arguments tells which trainer wrote the file."""

_MINICPM_FIELDS = frozenset({"tune_vision", "tune_llm", "llm_type"})
"""Fields of the class in finetune/finetune.py of https://github.com/OpenBMB/MiniCPM-V."""

_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*((?:\([^()]*\)|\[[^\[\]]*\]|[^,()\[\]])+)(?:,|$)")


def arguments_of(tree: object) -> Mapping[str, object] | None:
    """Return the fields of the object in a `training_args.bin`, None when it is no such object."""
    if not isinstance(tree, Call) or not isinstance(tree.state, dict):
        return None
    fields = {name: value for name, value in tree.state.items() if isinstance(name, str)}
    return fields if "output_dir" in fields else None


def trainer_of_arguments(tree: object) -> str | None:
    """Return the trainer that an object's class belongs to, None when it tells none."""
    fields = arguments_of(tree)
    if fields is None or not isinstance(tree, Call):
        return None
    if fields.keys() >= _MINICPM_FIELDS:
        return "minicpm-v"
    return _PACKAGES.get(tree.target.module.partition(".")[0])


def settings_of_arguments(tree: object) -> dict[str, Setting]:
    """Return what the arguments tell, by dotted name; nothing for any other object."""
    fields = arguments_of(tree)
    return {} if fields is None else dict(_settings(fields))


def _settings(fields: Mapping[str, object]) -> Iterator[tuple[str, Setting]]:
    for field, name in ARGUMENTS.items():
        value = _plain(fields.get(field))
        if value is not None:
            yield name, value
    if all(field in fields for field in _MIXED):
        yield "precision.mixed", next((one for one in _MIXED if fields[one] is True), "no")
    yield from flatten("optimizer.args", options_of(_plain(fields.get("optim_args")))).items()
    for field, name in _NESTED.items():
        if isinstance(fields.get(field), dict):
            yield from flatten(name, fields[field]).items()
    for engine in _ENGINES:
        if engine in fields:
            yield f"training.{engine}", bool(fields[engine])
    yield from _warmup(fields)
    yield from _state(fields.get("distributed_state"))


def _warmup(fields: Mapping[str, object]) -> Iterator[tuple[str, Setting]]:
    """Yield the warm-up; version 5 takes a share of the training for steps below 1."""
    steps, share = (as_finite(fields.get(name)) for name in ("warmup_steps", "warmup_ratio"))
    if steps is not None and 0 < steps < 1:
        steps, share = None, steps
    if share and not steps:
        yield "scheduler.warmup_ratio", share
    elif steps is not None:
        yield "scheduler.warmup_steps", int(steps)


def _state(state: object) -> Iterator[tuple[str, Setting]]:
    """Yield what accelerate's state says about where the training ran."""
    fields = state.state if isinstance(state, Call) else None
    if not isinstance(fields, dict):
        return
    processes = fields.get("num_processes")
    if type(processes) is int:
        yield "training.processes", processes
    device = fields.get("device")
    kind = device.arguments[0] if isinstance(device, Call) and device.arguments else None
    if as_text(kind) is not None:
        yield "training.device", str(kind)


def options_of(text: object) -> dict[str, object]:
    """Return the options in text such as ``eps=1e-6,betas=(0.9,0.99)``; values stay text.

    A number or a switch is turned into one; what comes after something else is left out.
    """
    found: dict[str, object] = {}
    at = 0
    while isinstance(text, str) and (match := _OPTION.match(text, at)):
        found[match[1]] = _value(match[2].strip())
        at = match.end()
    return found


def _value(text: str) -> object:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        return text


def _plain(value: object) -> Setting | None:
    """Return a field's value; of an enum's member, its value."""
    if isinstance(value, Call):
        scalar = numpy_scalar(value)
        value = value.arguments[0] if scalar is None and len(value.arguments) == 1 else scalar
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, bool):
        return value
    return value if isinstance(value, int | float) and as_number(value) is not None else None
