"""One safetensors file with everything, as sd-scripts, LyCORIS and their relatives write it.

Settings lie in the header's metadata under ``ss_`` names, every value a string
(train_network.py of https://github.com/kohya-ss/sd-scripts).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.base import stat_file
from sentinel.formats.naming import step_of_path
from sentinel.formats.roles import PEFT_PREFIX, is_adapter_key
from sentinel.formats.scalars import as_count
from sentinel.formats.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "kohya"

_MUSUBI_NETWORKS = (
    "lora_wan",
    "lora_framepack",
    "lora_qwen_image",
    "lora_zimage",
    "lora_kandinsky5",
)
"""Network modules that musubi-tuner has and sd-scripts has not (src/musubi_tuner/networks)."""

_SETTINGS: Mapping[str, str] = {
    "ss_mixed_precision": "precision.mixed",
    "ss_full_fp16": "precision.full_fp16",
    "ss_full_bf16": "precision.full_bf16",
    "ss_fp8_base": "precision.fp8_base",
    "ss_network_module": "adapter.method",
    "ss_network_dim": "adapter.rank",
    "ss_network_alpha": "adapter.alpha",
    "ss_optimizer": "optimizer.name",
    "ss_learning_rate": "optimizer.learning_rate",
    "ss_unet_lr": "optimizer.unet_learning_rate",
    "ss_text_encoder_lr": "optimizer.text_encoder_learning_rate",
    "ss_lr_scheduler": "scheduler.name",
    "ss_sd_model_name": "base.path",
    "ss_base_model_version": "base.version",
}
_NUMBERS = ("adapter.rank", "adapter.alpha", "learning_rate")


def recognise(place: Place) -> Candidate | None:
    """Take a file whose header names an adapter's tensors the way these trainers do."""
    header = place.header()
    if header is None or not any(_is_marked(tensor.name) for tensor in header.tensors):
        return None
    return place.candidate(NAME, step=as_count(header.metadata.get("ss_steps")))


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file."""
    return stat_file(path)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: the file has no mark, only its length."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the header and what its metadata tells."""
    draft = Draft(path.parent)
    metadata = draft.read_tensors(path.name)
    steps = as_count(metadata.get("ss_steps"))
    epoch = as_count(metadata.get("ss_epoch"))
    return draft.finish(
        path,
        NAME,
        complete=None,
        trainer=_trainer(metadata),
        step=step_of_path(path) if steps is None else steps,
        epoch=None if epoch is None else float(epoch),
        updates_done=_updates_done(steps, as_count(metadata.get("ss_lr_warmup_steps"))),
        # No alpha here: these files carry it as a tensor beside each module's matrices.
        adapter=AdapterConfig(
            rank=as_count(metadata.get("ss_network_dim")),
            init="scalar" if _is_scalar(metadata) else "default",
        ),
        settings=_settings(metadata),
    )


def _is_marked(key: str) -> bool:
    return not key.startswith(PEFT_PREFIX) and is_adapter_key(key)


def _is_scalar(metadata: Mapping[str, str]) -> bool:
    """Tell whether LyCORIS trained a scalar beside each module, which moves the zero side."""
    try:
        arguments = json.loads(metadata.get("ss_network_args", ""))
    except (ValueError, RecursionError):
        return False
    value = arguments.get("use_scalar") if isinstance(arguments, dict) else None
    return value in (True, 1) or (isinstance(value, str) and value.lower() in {"true", "1"})


def _trainer(metadata: Mapping[str, str]) -> str | None:
    module = metadata.get("ss_network_module", "")
    if any(network in module for network in _MUSUBI_NETWORKS):
        return "musubi-tuner"
    return "sd-scripts" if module else None


def _updates_done(steps: int | None, warmup_steps: int | None) -> int | None:
    """Return the steps after the warm-up: those surely had a learning rate above zero."""
    if steps is None or warmup_steps is None or steps <= warmup_steps:
        return None
    return steps - warmup_steps


def _settings(metadata: Mapping[str, str]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for key, name in _SETTINGS.items():
        text = metadata.get(key, "None")
        if text != "None":
            found[name] = _value(name, text)
    if found.get("precision.full_fp16") is True:
        found["precision.adapter"] = "fp16"
    return found


def _value(name: str, text: str) -> Setting:
    if text in {"True", "False"}:
        return text == "True"
    if name.endswith(_NUMBERS):
        try:
            return float(text)
        except ValueError:
            return text
    return text
