"""OneTrainer's configuration, a JSON of `TrainConfig`, as settings and an adapter's description.

Source: modules/util/config/TrainConfig.py and modules/util/enum/DataType.py of
https://github.com/Nerogar/OneTrainer.
"""

from __future__ import annotations

from collections.abc import Mapping
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
_TRUNKS: Mapping[str, str] = MappingProxyType(
    {"STABLE_DIFFUSION_1": "unet", "STABLE_DIFFUSION_2": "unet", "STABLE_DIFFUSION_XL": "unet"}
    | {"WUERSTCHEN": "prior", "STABLE_CASCADE": "prior"}
)
"""How a `model_type` begins → the part that denoises; for all others it is `transformer`.

A configuration holds every part, also those its model has not (modules/util/enum/ModelType.py).
"""

_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr", "OFT_2": "oft"}
)


def adapter_of(config: Mapping[str, object]) -> AdapterConfig:
    """Return the adapter; its alpha lies beside the tensors.

    LoKr has a rank and a magnitude of its own, OFT a size of its blocks instead of a rank.
    """
    family = _FAMILIES.get(as_text(config.get("peft_type")) or "LORA", "lora")
    prefix = "lokr_weight" if family == "lokr" else "lora"
    rank = {"lokr": "lokr_dim", "oft": ""}.get(family, "lora_rank")
    return AdapterConfig(
        family=family,
        rank=as_count(config.get(rank)),
        dora=family in {"lora", "lokr"} and config.get(f"{prefix}_decompose") is True,
        base_model=as_text(config.get("base_model_name")),
    )


def settings_of(config: Mapping[str, object]) -> dict[str, Setting]:
    """Return the settings by dotted name; the optimizer's arguments keep their own names."""
    if not config:
        return {}
    optimizer = config.get("optimizer")
    arguments = dict(optimizer) if isinstance(optimizer, dict) else {}
    name = as_text(arguments.pop("optimizer", None))
    scheduler = as_text(config.get("learning_rate_scheduler"))
    version = as_text(config.get("model_type"))
    adapter = adapter_of(config)
    is_plain = adapter.family == "lora" and adapter.dora
    found: dict[str, Setting | None] = {
        "precision.adapter": _precision(config.get("lora_weight_dtype")),
        "precision.mixed": _precision(config.get("train_dtype")),
        "precision.output": _precision(config.get("output_dtype")),
        "adapter.method": "dora" if is_plain else adapter.family,
        "adapter.rank": adapter.rank,
        "adapter.alpha": as_finite(config.get("lora_alpha")) if adapter.family != "oft" else None,
        "base.path": adapter.base_model,
        "base.version": version.lower() if version else None,
        "base.quantization": _quantization(config),
        "optimizer.name": name.lower() if name else None,
        "optimizer.learning_rate": as_finite(config.get("learning_rate")),
        "optimizer.unet_learning_rate": as_finite(_trunk(config).get("learning_rate")),
        "optimizer.text_encoder_learning_rate": as_finite(
            _part(config, "text_encoder").get("learning_rate")
        ),
        "scheduler.name": scheduler.lower() if scheduler else None,
    }
    known = {key: value for key, value in found.items() if value is not None}
    return {**flatten("optimizer.args", arguments), **known}


def updates_done(step: int | None, config: Mapping[str, object]) -> int | None:
    """Return the updates after the warm-up, None when nothing proves one.

    OneTrainer's global step counts batches, and so does a warm-up; one up to 1 is a share of the
    whole training (modules/util/create.py, `create_lr_scheduler`).
    """
    rate = as_finite(config.get("learning_rate")) or as_finite(_trunk(config).get("learning_rate"))
    warmup = as_finite(config.get("learning_rate_warmup_steps"))
    batches = as_count(config.get("gradient_accumulation_steps"))
    if step is None or not rate or warmup is None or not batches:
        return None
    if warmup < 0 or 0 < warmup <= 1:
        return None
    updates = step // batches - int(max(warmup, 0.0) / batches)
    return updates if updates > 0 else None


def _precision(value: object) -> str | None:
    return PRECISIONS.get(as_text(value) or "")


def _quantization(config: Mapping[str, object]) -> str | None:
    """Return the scheme of the trained network's weights, "none" for plain ones.

    Before its version 9 a configuration had one `weight_dtype` for the parts that have none.
    """
    for value in (_trunk(config).get("weight_dtype"), config.get("weight_dtype")):
        dtype = as_text(value) or ""
        if dtype in _SCHEMES:
            return _SCHEMES[dtype]
        if dtype in PRECISIONS:
            return "none"
    return None


def _trunk(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the settings of the part that denoises."""
    kind = as_text(config.get("model_type")) or ""
    known = (part for start, part in _TRUNKS.items() if kind.startswith(start))
    return _part(config, next(known, "transformer"))


def _part(config: Mapping[str, object], name: str) -> Mapping[str, object]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}
