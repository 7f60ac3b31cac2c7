"""One safetensors file with everything, as sd-scripts, LyCORIS and their relatives write it.

Settings lie in the header's metadata under ``ss_`` names, every value a string
(train_network.py of https://github.com/kohya-ss/sd-scripts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import AdapterConfig
from sentinel.errors import InputError
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.plain import SUFFIX
from sentinel.formats.naming import shard_of, step_of_path
from sentinel.formats.roles import PEFT_PREFIX
from sentinel.formats.scalars import as_count
from sentinel.formats.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "kohya"

_SEGMENTS = frozenset({"lora_down", "lora_up", "oft_blocks"})
_PREFIXES = ("hada_", "lokr_")

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
    """Take a file whose header names up and down matrices the way these trainers do."""
    if place.is_directory or not place.path.name.endswith(SUFFIX) or shard_of(place.path.name):
        return None
    try:
        header = read_safetensors_header(place.path)
    except InputError:
        return None
    if not any(_is_marked(tensor.name) for tensor in header.tensors):
        return None
    return place.candidate(NAME, step=as_count(header.metadata.get("ss_steps")))


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file."""
    try:
        return (stat_member(path.parent, path.name, "weights"),)
    except InputError:
        return ()


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
        adapter=AdapterConfig(rank=as_count(metadata.get("ss_network_dim"))),
        settings=_settings(metadata),
    )


def _is_marked(key: str) -> bool:
    if key.startswith(PEFT_PREFIX):
        return False
    return any(part in _SEGMENTS or part.startswith(_PREFIXES) for part in key.split("."))


def _trainer(metadata: Mapping[str, str]) -> str | None:
    if "ot_revision" in metadata or "ot_branch" in metadata:
        return "onetrainer"
    if "training_info" in metadata:
        return "ai-toolkit"
    return "sd-scripts" if "ss_network_module" in metadata else None


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
