"""`adapter_config.json`: what PEFT writes about an adapter, read into a value.

Fields: peft/tuners/lora/config.py of https://github.com/huggingface/peft.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.scalars import as_count, as_finite, as_text
from sentinel.formats.settings import Setting, flatten

NAME = "adapter_config.json"

_FURTHER: Mapping[str, str] = MappingProxyType(
    {
        "lora_dropout": "adapter.dropout",
        "bias": "adapter.bias",
        "task_type": "adapter.task",
        "target_modules": "adapter.targets",
        "target_parameters": "adapter.target_parameters",
        "layer_replication": "adapter.layer_replication",
        "rank_pattern": "adapter.rank_pattern",
        "alpha_pattern": "adapter.alpha_pattern",
        "modules_to_save": "adapter.modules_to_save",
    }
)
_INITS = ("init_lora_weights", "init_weights", "init_ia3_weights")
"""The families' names for one switch: true, false, or how the weights are set at first."""


def adapter_config_of(content: Mapping[str, object]) -> AdapterConfig:
    """Return the adapter's description; what has the wrong type is left out."""
    return AdapterConfig(
        family=(as_text(content.get("peft_type")) or "lora").lower(),
        rank=as_count(content.get("r")),
        alpha=as_finite(content.get("lora_alpha", content.get("alpha"))),
        rslora=content.get("use_rslora") is True,
        dora=content.get("use_dora") is True,
        init=_init(next((content[name] for name in _INITS if name in content), None)),
        rank_pattern=_ranks(content.get("rank_pattern")),
        alpha_pattern=_alphas(content.get("alpha_pattern")),
        modules_to_save=_texts(content.get("modules_to_save")),
        target_parameters=_texts(content.get("target_parameters")),
        base_model=as_text(content.get("base_model_name_or_path")),
    )


def adapter_settings(content: Mapping[str, object], adapter: AdapterConfig) -> dict[str, Setting]:
    """Return the settings that the adapter's own description tells, by dotted name."""
    found = {
        "adapter.method": "dora" if adapter.dora else adapter.family,
        "adapter.rank": adapter.rank,
        "adapter.alpha": adapter.alpha,
        "adapter.init": adapter.init,
        "adapter.rslora": adapter.rslora,
        "base.path": adapter.base_model,
        "base.revision": as_text(content.get("revision")),
        "base.architecture": _architecture(content.get("auto_mapping")),
        "versions.peft": as_text(content.get("peft_version")),
    }
    known = {name: value for name, value in found.items() if value is not None}
    return {**known, **_further(content)}


def _further(content: Mapping[str, object]) -> dict[str, Setting]:
    """Return what PEFT writes always and few use: only where it says something."""
    found: dict[str, Setting] = {}
    for field, name in _FURTHER.items():
        value = content.get(field)
        if value and value != "none":
            found |= flatten(name, json.dumps(value) if isinstance(value, dict) else value)
    return found


def _architecture(mapping: object) -> str | None:
    """Return the base's class, which PEFT notes where no task type tells it."""
    return as_text(mapping.get("base_model_class")) if isinstance(mapping, dict) else None


def _init(value: object) -> str:
    """Return the initialisation's name: ``default`` for true, ``false`` for random up matrices."""
    if value is None or value is True:
        return "default"
    if value is False:
        return "false"
    return (as_text(value) or "unknown").lower()


def _ranks(value: object) -> Mapping[str, int]:
    pairs = value.items() if isinstance(value, dict) else ()
    counts = ((as_text(key), as_count(number)) for key, number in pairs)
    return {key: number for key, number in counts if key is not None and number is not None}


def _alphas(value: object) -> Mapping[str, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    numbers = ((as_text(key), as_finite(number)) for key, number in pairs)
    return {key: number for key, number in numbers if key is not None and number is not None}


def _texts(value: object) -> tuple[str, ...]:
    texts = (as_text(one) for one in value) if isinstance(value, list) else ()
    return tuple(text for text in texts if text is not None)
