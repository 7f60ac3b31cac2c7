"""Descriptions of an adapter outside `adapter_config.json`: diffusers' metadata, LyCORIS' JSON.

diffusers keeps its PEFT configuration as JSON in the header's metadata, one flat object with the
component before each field: ``{"transformer.r": 16, "transformer.lora_alpha": 16.0}``
(src/diffusers/loaders/lora_base.py, `LORA_ADAPTER_METADATA_KEY`). `lycoris_config.json` is what
SimpleTuner gives to LyCORIS' `create_lycoris`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.adapter_config import adapter_config_of, adapter_settings
from sentinel.formats.scalars import as_count, as_text
from sentinel.formats.settings import Setting

DIFFUSERS_KEY = "lora_adapter_metadata"
LYCORIS_CONFIG = "lycoris_config.json"
LYCORIS_KEY = "lycoris_config"

_LONGEST = 2**20
_DENOISERS = frozenset({"transformer", "unet"})
_FAMILIES: Mapping[str, str] = MappingProxyType(
    {"lora": "lora", "locon": "lora", "dylora": "lora", "diag-oft": "oft"}
)
"""LyCORIS' algorithms whose family has another name here."""


def adapter_of_metadata(metadata: Mapping[str, str]) -> AdapterConfig | None:
    """Return the adapter that diffusers' metadata describes, None without such metadata.

    What differs from the denoiser's alpha, and every component's own patterns, become patterns
    for that component's modules.
    """
    components = _components(metadata.get(DIFFUSERS_KEY, ""))
    if not components:
        return None
    found = {name: adapter_config_of(fields) for name, fields in components.items()}
    first = found[min(found, key=lambda name: name not in _DENOISERS)]
    alphas: dict[str, float] = {}
    for name, config in found.items():
        inside = re.escape(name) + r"\."
        for pattern, alpha in config.alpha_pattern.items():
            # Written apart: a group that repeats is refused as one of unbounded cost.
            alphas |= {rf"{inside}({pattern})": alpha, rf"{inside}.*\.({pattern})": alpha}
        if config.alpha is not None:
            alphas[f"{inside}.*"] = config.alpha
    return AdapterConfig(
        rank=first.rank,
        alpha=first.alpha,
        rslora=first.rslora,
        dora=any(config.dora for config in found.values()),
        init=first.init,
        alpha_pattern=alphas,
        base_model=first.base_model,
    )


def metadata_settings(metadata: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings that diffusers' metadata tells, by dotted name."""
    adapter = adapter_of_metadata(metadata)
    if adapter is None:
        return {}
    fields = next(iter(_components(metadata.get(DIFFUSERS_KEY, "")).values()))
    return adapter_settings(fields, adapter)


def adapter_of_lycoris(content: Mapping[str, object]) -> AdapterConfig:
    """Return the adapter a `lycoris_config.json` describes; alpha lies beside the tensors."""
    algorithm = (as_text(content.get("algo")) or "lora").lower()
    return AdapterConfig(
        family=_FAMILIES.get(algorithm, algorithm),
        rank=as_count(content.get("linear_dim")),
        dora=content.get("dora_wd") is True,
        init="scalar" if content.get("use_scalar") is True else "default",
    )


def lycoris_of_metadata(metadata: Mapping[str, str]) -> AdapterConfig | None:
    """Return the adapter of the `lycoris_config.json` that SimpleTuner keeps as metadata too."""
    content = _object(metadata.get(LYCORIS_KEY, ""))
    return adapter_of_lycoris(content) if content else None


def _components(text: str) -> dict[str, dict[str, object]]:
    """Return the fields of each component; text that makes no sense has none.

    SimpleTuner's `--lora_format=comfyui` leaves the component out: its name is "" then.
    """
    found: dict[str, dict[str, object]] = {}
    for key, value in _object(text).items():
        component, dot, name = key.partition(".")
        if not dot:
            component, name = "", key
        if name:
            found.setdefault(component, {})[name] = value
    return found


def _object(text: str) -> dict[str, object]:
    try:
        content = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
