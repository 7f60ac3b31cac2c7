"""ai-toolkit's YAML: the first process of a job.

Source: toolkit/config_modules.py, toolkit/optimizer.py and toolkit/util/quantize.py of
https://github.com/ostris/ai-toolkit. The adapter is trained in fp32 whatever is asked for; for
Prodigy and D-Adaptation a learning rate below 0.1 is taken as 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER, OUTPUT
from sentinel.formats.configs.values import arguments_of, precision_of_text, take, text_of, truth_of
from sentinel.formats.settings import Setting

TRAINER = "ai-toolkit"
LOOKS_FOR = "ai-toolkit's YAML (job, config.process with network, train and model)"
PROGRAMS: frozenset[str] = frozenset()
FILE_OPTIONS: tuple[str, ...] = ("",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "network/linear": "adapter.rank",
        "network/linear_alpha": "adapter.alpha",
        "network/dropout": "adapter.dropout",
        "network/pretrained_lora_path": ADAPTER,
        "train/optimizer": "optimizer.name",
        "train/lr": "optimizer.learning_rate",
        "train/lr_scheduler": "scheduler.name",
        "train/batch_size": "training.batch_size",
        "train/gradient_accumulation_steps": "training.gradient_accumulation_steps",
        "train/gradient_checkpointing": "training.gradient_checkpointing",
        "train/max_grad_norm": "training.max_grad_norm",
        "train/steps": "training.max_steps",
        "save/save_every": "training.save_steps",
        "save/max_step_saves_to_keep": "training.save_total_limit",
        "model/name_or_path": "base.path",
    }
)
OTHERS = (
    "network/type",
    "train/dtype",
    "train/optimizer_params",
    "save/dtype",
    "model/quantize",
    "model/qtype",
)
"""Further fields that are read; tests hold that the trainer has them all."""

_PARTS = ("network", "save", "train", "model")
_LOWEST_RATE = 0.1
_BY_RATE = ("prodigy", "dadaptation")
_AS_GIVEN = "prodigy8bit"


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take a job whose first process trains a network; fields are named `part/name`."""
    config = content.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    process = processes[0] if isinstance(processes, list) and processes else None
    if not isinstance(process, dict) or not isinstance(process.get("train"), dict):
        return None
    fields: dict[str, object] = {"training_folder": process.get("training_folder")}
    if isinstance(config, dict):
        fields["name"] = config.get("name")
    for part in _PARTS:
        inner = process.get(part)
        if isinstance(inner, dict):
            fields |= {f"{part}/{name}": value for name, value in inner.items()}
    return fields


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return nothing: the command overrides no field but the name."""
    del options
    return {}


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the fields tell, and what the trainer makes of them."""
    found = {**take(fields, KEYS), **arguments_of(fields.get("train/optimizer_params"))}
    training = precision_of_text(fields.get("train/dtype"))
    if training:
        found |= {"precision.training": training}
    output = precision_of_text(fields.get("save/dtype"))
    if output:
        found["precision.output"] = output
    kind = text_of(fields.get("network/type"))
    if kind:
        found |= {
            "adapter.method": "lora" if kind == "locon" else kind,
            "precision.adapter": "fp32",
        }
    quantized = truth_of(fields.get("model/quantize"))
    if quantized is not None:
        packed = text_of(fields.get("model/qtype")) or "qfloat8"
        found["base.quantization"] = packed if quantized else "none"
    folder, name = (text_of(fields.get(key)) for key in ("training_folder", "name"))
    if folder and name:
        found[OUTPUT] = f"{folder}/{name}"
    return {**found, **_optimizer(found)}


def _optimizer(found: Mapping[str, Setting]) -> dict[str, Setting]:
    name = str(found.get("optimizer.name", "")).lower()
    rate = found.get("optimizer.learning_rate")
    if name == "adafactor":
        defaults = ("optimizer.args.scale_parameter", "optimizer.args.relative_step")
        return {key: False for key in defaults if key not in found}
    is_low = isinstance(rate, float) and rate < _LOWEST_RATE
    if is_low and name.startswith(_BY_RATE) and not name.startswith(_AS_GIVEN):
        return {"optimizer.learning_rate": 1.0}
    return {}
