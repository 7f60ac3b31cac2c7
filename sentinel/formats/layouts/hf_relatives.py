"""Which trainer on top of Transformers' Trainer made a checkpoint, by the files it adds.

Sources: src/axolotl/core/builders and train.py of https://github.com/axolotl-ai-cloud/axolotl,
src/llamafactory/extras/constants.py of https://github.com/hiyouga/LLaMA-Factory,
swift/arguments/base_args of https://github.com/modelscope/ms-swift, finetune/finetune.py of
https://github.com/OpenBMB/MiniCPM-V.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.scalars import as_text
from sentinel.formats.settings import Setting
from sentinel.formats.training_arguments import trainer_of_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import AdapterConfig

SWIFT_ARGUMENTS = "args.json"

RELATIVES: tuple[tuple[str, frozenset[str]], ...] = (
    ("axolotl", frozenset({"tokens_state.json", "debug.log"})),
    (
        "llama-factory",
        frozenset({"trainer_log.jsonl", "running_log.txt", "llamaboard_config.yaml"}),
    ),
    ("ms-swift", frozenset({"additional_config.json", "sft_args.json"})),
)
"""A trainer and the files of which any one, in a checkpoint or beside it, is its own."""

_MINICPM_MODULES = frozenset({"resampler", "embed_tokens"})
_SWIFT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "torch_dtype": "base.compute_dtype",
        "lora_dtype": "precision.lora_dtype",
        "quant_method": "base.quantization",
        "optim": "optimizer.name",
        "learning_rate": "optimizer.learning_rate",
        "lr_scheduler_type": "scheduler.name",
        "swift_version": "versions.swift",
    }
)
_DTYPES: Mapping[str, str] = MappingProxyType(
    {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
)


def trainer_of(
    files: Collection[str],
    beside: Collection[str],
    adapter: AdapterConfig | None,
    arguments: object = None,
) -> str:
    """Return the trainer's name, ``transformers`` when nothing tells another.

    ``files`` are those of the checkpoint, ``beside`` those of the directory it lies in,
    ``arguments`` what `training_args.bin` was read to.
    """
    seen = {*files, *beside}
    for name, marks in RELATIVES:
        if marks & seen:
            return name
    if SWIFT_ARGUMENTS in files:
        return "ms-swift"
    told = trainer_of_arguments(arguments)
    if told is not None:
        return told
    saved = set(adapter.modules_to_save) if adapter is not None else set()
    return "minicpm-v" if saved >= _MINICPM_MODULES else "transformers"


def settings_of(path: Path, files: Collection[str]) -> dict[str, Setting]:
    """Return what ms-swift's `args.json` in a checkpoint tells, by dotted name."""
    if SWIFT_ARGUMENTS not in files:
        return {}
    try:
        content = read_json_object(path / SWIFT_ARGUMENTS)
    except InputError:
        return {}
    found: dict[str, Setting] = {}
    for key, name in _SWIFT_SETTINGS.items():
        value = content.get(key)
        text = as_text(value)
        if text is not None:
            found[name] = _DTYPES.get(text.removeprefix("torch."), text)
        elif isinstance(value, int | float):
            found[name] = value
    return found
