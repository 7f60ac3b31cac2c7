"""LLaMA-Factory's arguments, as YAML or JSON or as a command line.

Source: src/llamafactory/hparams/*.py and model/adapter.py of
https://github.com/hiyouga/LLaMA-Factory. All trained parameters are cast to fp32 unless
`pure_bf16`, BAdam or DeepSpeed's stage 3 stands against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.formats.configs import transformers
from sentinel.formats.configs.options import Options
from sentinel.formats.configs.reader import ADAPTER
from sentinel.formats.configs.values import number_of, take, text_of, truth_of
from sentinel.formats.settings import Setting

TRAINER = "llama-factory"
LOOKS_FOR = "LLaMA-Factory's arguments (finetuning_type, or stage beside model_name_or_path)"
PROGRAMS = frozenset({"llamafactory-cli", "lmf", "llamafactory.cli"})
FILE_OPTIONS: tuple[str, ...] = ("",)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "model_name_or_path": "base.path",
        "lora_rank": "adapter.rank",
        "lora_alpha": "adapter.alpha",
        "lora_dropout": "adapter.dropout",
        "lora_target": "adapter.targets",
        "additional_target": "adapter.modules_to_save",
        "use_rslora": "adapter.rslora",
        "double_quantization": "base.double_quant",
        "pure_bf16": "precision.full_bf16",
        "adapter_name_or_path": ADAPTER,
    }
)
OTHERS = (
    "finetuning_type",
    "use_dora",
    "pissa_init",
    "use_badam",
    "quantization_bit",
    "quantization_method",
    "quantization_type",
)
"""Further fields that are read; tests hold that the trainer has them all."""

_BITSANDBYTES = frozenset({"bnb", "bitsandbytes"})
_BITS_INT8 = 8


def fields_of(content: Mapping[str, object]) -> Mapping[str, object] | None:
    """Take what names a way of fine-tuning, or a stage and a model."""
    names = set(content)
    is_own = "finetuning_type" in names or names >= {"stage", "model_name_or_path", "dataset"}
    return content if is_own else None


def fields_of_command(options: Options) -> Mapping[str, object]:
    """Return options and OmegaConf's assignments alike."""
    return {**options.named, **options.assigned}


def settings_of(fields: Mapping[str, object]) -> dict[str, Setting]:
    """Return what the arguments tell."""
    found = {**transformers.argument_settings(fields), **take(fields, KEYS)}
    kind = text_of(fields.get("finetuning_type"))
    if kind in {None, "lora"}:
        found["adapter.method"] = "dora" if truth_of(fields.get("use_dora")) else "lora"
        found |= _adapter_precision(fields, found)
    if truth_of(fields.get("pissa_init")):
        found["adapter.init"] = "pissa"
    scheme = _scheme(fields)
    if scheme:
        found["base.quantization"] = scheme
    return found


def _adapter_precision(
    fields: Mapping[str, object], found: Mapping[str, Setting]
) -> dict[str, Setting]:
    if found.get("precision.full_bf16") is True:
        return {"precision.adapter": "bf16", "precision.training": "bf16"}
    if truth_of(fields.get("use_badam")) or "training.deepspeed" in found:
        return {}
    return {"precision.adapter": "fp32"}


def _scheme(fields: Mapping[str, object]) -> str | None:
    bits = number_of(fields.get("quantization_bit"))
    if bits is None:
        return None
    method = (text_of(fields.get("quantization_method")) or "bnb").lower()
    if method not in _BITSANDBYTES:
        return f"{method}-int{bits:.0f}"
    if bits == _BITS_INT8:
        return "int8"
    return (text_of(fields.get("quantization_type")) or "nf4").lower()
