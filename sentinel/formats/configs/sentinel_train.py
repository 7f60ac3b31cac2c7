"""A recipe of the bundled trainer, as its file or as `sentinel-train recipe.yaml --set ...`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import OUTPUT, RESUME
from sentinel.formats.configs.values import arguments_of, take, text_of
from sentinel.formats.settings import Setting, flatten

TRAINER = "sentinel-train"
LOOKS_FOR = "a recipe of sentinel-train (base, adapter and training)"
PROGRAMS = frozenset({"sentinel-train", "sentinel_trainer", "sentinel_trainer.main"})
FILE_OPTIONS: tuple[str, ...] = ("",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "base/model": "base.path",
        "base/quantization": "base.quantization",
        "base/double_quant": "base.double_quant",
        "base/compute_dtype": "base.compute_dtype",
        "adapter/method": "adapter.method",
        "adapter/init": "adapter.init",
        "adapter/rank": "adapter.rank",
        "adapter/alpha": "adapter.alpha",
        "adapter/dropout": "adapter.dropout",
        "adapter/target_modules": "adapter.targets",
        "adapter/modules_to_save": "adapter.modules_to_save",
        "adapter/dtype": "precision.adapter",
        "training/steps": "training.max_steps",
        "training/epochs": "training.epochs",
        "training/batch_size": "training.batch_size",
        "training/gradient_accumulation": "training.gradient_accumulation_steps",
        "training/gradient_checkpointing": "training.gradient_checkpointing",
        "training/learning_rate": "optimizer.learning_rate",
        "training/optimizer/name": "optimizer.name",
        "training/scheduler": "scheduler.name",
        "training/warmup_steps": "scheduler.warmup_steps",
        "training/save_every": "training.save_steps",
        "training/log_every": "training.logging_steps",
        "training/max_grad_norm": "training.max_grad_norm",
        "training/seed": "training.seed",
        "output_dir": OUTPUT,
    }
)
_PARTS = frozenset({"base", "adapter", "training"})
_LENGTHS = frozenset({"training/steps", "training/epochs"})
_ARGUMENTS = "training/optimizer/args"


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what has the three sections of a recipe; fields are named `section/name`."""
    if not all(isinstance(content.get(part), dict) for part in _PARTS):
        return None
    leaves = flatten("", dict(content))
    fields: dict[str, object] = {name.replace(".", "/"): leaf for name, leaf in leaves.items()}
    training = content["training"]
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    if isinstance(optimizer, dict):
        fields[_ARGUMENTS] = optimizer.get("args")
    return fields


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return what `--set KEY=VALUE` overrides, and from where the training resumes."""
    fields: dict[str, object] = {}
    for pair in options.every.get("set", ()):
        name, equals, value = pair.partition("=")
        if equals:
            fields[name.replace(".", "/")] = value
    if fields.keys() & _LENGTHS:
        fields = {**dict.fromkeys(_LENGTHS, ""), **fields}  # it goes over the file's other one
    return {**fields, "resume": options.named.get("resume")}


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the recipe tells."""
    found = {**take(fields, KEYS), **arguments_of(fields.get(_ARGUMENTS))}
    resume = text_of(fields.get("resume"))
    return {**found, RESUME: resume} if resume else found
