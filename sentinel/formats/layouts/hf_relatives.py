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
from sentinel.formats.files import files_among
from sentinel.formats.relatives_settings import (
    AXOLOTL_LOG,
    LLAMA_FACTORY_ARGUMENTS,
    axolotl_settings,
    llama_factory_settings,
)
from sentinel.formats.scalars import as_number, as_text
from sentinel.formats.settings import Setting
from sentinel.formats.training_arguments import trainer_of_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import AdapterConfig

SWIFT_ARGUMENTS = "args.json"
UNKNOWN = "transformers"
"""What is said where no relative left a mark."""

RELATIVES: tuple[tuple[str, frozenset[str]], ...] = (
    ("axolotl", frozenset({"tokens_state.json", AXOLOTL_LOG})),
    (
        "llama-factory",
        frozenset(
            {
                "trainer_log.jsonl",
                "running_log.txt",
                "llamaboard_config.yaml",
                LLAMA_FACTORY_ARGUMENTS,
            }
        ),
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
    """Return the trainer's name, `UNKNOWN` when nothing tells a relative.

    ``files`` are those of the checkpoint, ``beside`` what `marks_in` says of the directory it
    lies in,
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
    return "minicpm-v" if saved >= _MINICPM_MODULES else UNKNOWN


def marks_in(directory: Path) -> tuple[str, ...]:
    """Return the files in a directory that tell a relative, which may hold many others."""
    return files_among(directory, sorted(frozenset[str]().union(*(m for _, m in RELATIVES))))


def settings_of(path: Path, files: Collection[str]) -> dict[str, Setting]:
    """Return what the relatives' own files in and beside a checkpoint tell, by dotted name.

    ``files`` are those of the checkpoint at ``path``; a last save lies where the logs are.
    """
    output = path if {AXOLOTL_LOG, LLAMA_FACTORY_ARGUMENTS} & set(files) else path.parent
    found = axolotl_settings(output / AXOLOTL_LOG)
    if not found:
        found = llama_factory_settings(
            output / LLAMA_FACTORY_ARGUMENTS, written_ns=_written_ns(path)
        )
    return {**found, **(_swift(path) if SWIFT_ARGUMENTS in files else {})}


def _written_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _swift(path: Path) -> dict[str, Setting]:
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
        elif isinstance(value, bool) or (
            isinstance(value, int | float) and as_number(value) is not None
        ):
            found[name] = value
    return found
