"""OneTrainer's configuration, a JSON of `TrainConfig`, as settings and an adapter's description.

Source: modules/util/config/TrainConfig.py and modules/util/enum/DataType.py of
https://github.com/Nerogar/OneTrainer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.scalars import as_count, as_finite, as_text
from sentinel.formats.settings import Setting, flatten

PRECISIONS: Mapping[str, str] = MappingProxyType(
    {"FLOAT_32": "fp32", "TFLOAT_32": "fp32", "FLOAT_16": "fp16", "BFLOAT_16": "bf16"}
)

_SCHEMES: Mapping[str, str] = MappingProxyType(
    {
        "NFLOAT_4": "nf4",
        "INT_8": "int8",
        "INT_W8A8": "int8",
        "INT_W8A8_COMPRESSED": "int8",
        "FLOAT_8": "fp8",
        "FLOAT_W8A8": "fp8",
        "FLOAT_W8A8_COMPRESSED": "fp8",
        "GGUF": "gguf",
        "GGUF_A8_FLOAT": "gguf",
        "GGUF_A8_INT": "gguf",
    }
)
_TRUNKS = ("transformer", "unet", "prior")
_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr", "OFT_2": "oft"}
)


def adapter_of(config: Mapping[str, object]) -> AdapterConfig:
    """Return the adapter; its alpha lies beside the tensors."""
    return AdapterConfig(
        family=_FAMILIES.get(as_text(config.get("peft_type")) or "LORA", "lora"),
        rank=as_count(config.get("lora_rank")),
        dora=config.get("lora_decompose") is True,
        base_model=as_text(config.get("base_model_name")),
    )


def settings_of(config: Mapping[str, object]) -> dict[str, Setting]:
    """Return the settings by dotted name; the optimizer's arguments keep their own names."""
    optimizer = config.get("optimizer")
    arguments = dict(optimizer) if isinstance(optimizer, dict) else {}
    name = as_text(arguments.pop("optimizer", None))
    scheduler = as_text(config.get("learning_rate_scheduler"))
    adapter = adapter_of(config)
    found: dict[str, Setting | None] = {
        "precision.adapter": _precision(config.get("lora_weight_dtype")),
        "precision.mixed": _precision(config.get("train_dtype")),
        "precision.output": _precision(config.get("output_dtype")),
        "adapter.method": "dora" if adapter.dora else adapter.family,
        "adapter.rank": adapter.rank,
        "adapter.alpha": as_finite(config.get("lora_alpha")),
        "base.path": adapter.base_model,
        "base.quantization": _quantization(config),
        "optimizer.name": name.lower() if name else None,
        "optimizer.learning_rate": as_finite(config.get("learning_rate")),
        "scheduler.name": scheduler.lower() if scheduler else None,
    }
    known = {key: value for key, value in found.items() if value is not None}
    return {**flatten("optimizer.args", arguments), **known}


def updates_done(step: int | None, config: Mapping[str, object]) -> int | None:
    """Return the updates after the warm-up, None when nothing proves one.

    OneTrainer's global step counts batches; a warm-up up to 1 is a share of the whole training.
    """
    rate = as_finite(config.get("learning_rate"))
    warmup = as_finite(config.get("learning_rate_warmup_steps"))
    batches = as_count(config.get("gradient_accumulation_steps"))
    if step is None or not rate or warmup is None or not batches:
        return None
    if warmup < 0 or 0 < warmup <= 1:
        return None
    updates = step // batches - int(warmup)
    return updates if updates > 0 else None


def _precision(value: object) -> str | None:
    return PRECISIONS.get(as_text(value) or "")


def _quantization(config: Mapping[str, object]) -> str | None:
    """Return the scheme of the trained network's weights, "none" for plain ones."""
    for dtype in _weight_dtypes(config):
        if dtype in _SCHEMES:
            return _SCHEMES[dtype]
        if dtype in PRECISIONS:
            return "none"
    return None


def _weight_dtypes(config: Mapping[str, object]) -> Iterator[str]:
    for trunk in _TRUNKS:
        part = config.get(trunk)
        if isinstance(part, dict):
            yield as_text(part.get("weight_dtype")) or ""
    yield as_text(config.get("weight_dtype")) or ""
