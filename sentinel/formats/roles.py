"""From a tensor's key to its module, its role, its adapter family, and whether it starts at zero.

A key is ``<prefix><module>.<marker>[.<adapter>][.weight]``; the marker, a segment such as
``lora_A`` or ``hada_w2_a``, tells the rest. The same family starts the opposite side at zero in
different libraries: LyCORIS' convention is the one of keys without PEFT's prefix.

Sources: peft/tuners/*/layer.py (`reset_lora_parameters` and its like) of
https://github.com/huggingface/peft, lycoris/modules/*.py of
https://github.com/KohakuBlueleaf/LyCORIS, networks/lora.py of
https://github.com/kohya-ss/sd-scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel.checkpoint import AdapterConfig, Role, Tensor

PEFT_PREFIX = "base_model.model."
_FLAT_PREFIXES = ("lora_", "lycoris_")


@dataclass(frozen=True, slots=True)
class Marker:
    """What a segment of a key says; the zero sides are those after default initialisation."""

    role: Role
    family: str
    zero_peft: bool = False
    zero_lycoris: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a key says about its tensor."""

    module: str
    role: Role
    family: str = ""
    zero_at_init: bool = False


def _always_zero(family: str) -> Marker:
    return Marker("adapter", family, zero_peft=True, zero_lycoris=True)


_LORA_UP = Marker("lora_up", "lora", zero_peft=True, zero_lycoris=True)
_LORA_DOWN = Marker("lora_down", "lora")
_MAGNITUDE = Marker("magnitude", "lora")
_LOHA = Marker("adapter", "loha")
_LOKR = Marker("adapter", "lokr")
_LOKR_FIRST = Marker("adapter", "lokr", zero_peft=True)
_LOKR_SECOND = Marker("adapter", "lokr", zero_lycoris=True)

MARKERS: Mapping[str, Marker] = MappingProxyType(
    {
        "lora_A": _LORA_DOWN,
        "lora_B": _LORA_UP,
        "lora_down": _LORA_DOWN,
        "lora_up": _LORA_UP,
        "lora_mid": Marker("lora_mid", "lora"),
        # An embedding is looked up in A first, so there PEFT zeroes A.
        "lora_embedding_A": Marker("lora_down", "lora", zero_peft=True, zero_lycoris=True),
        "lora_embedding_B": Marker("lora_up", "lora"),
        "lora_magnitude_vector": _MAGNITUDE,
        "dora_scale": _MAGNITUDE,
        "lora_E": _always_zero("adalora"),
        "hada_w1_a": _LOHA,
        "hada_w1_b": _LOHA,
        "hada_w2_a": Marker("adapter", "loha", zero_lycoris=True),
        "hada_w2_b": Marker("adapter", "loha", zero_peft=True),
        "hada_t1": _LOHA,
        "hada_t2": _LOHA,
        "lokr_w1": _LOKR_FIRST,
        "lokr_w1_a": _LOKR_FIRST,
        "lokr_w1_b": _LOKR,
        "lokr_w2": _LOKR_SECOND,
        "lokr_w2_a": _LOKR,
        "lokr_w2_b": _LOKR_SECOND,
        "lokr_t2": _LOKR,
        "oft_R": _always_zero("oft"),
        "oft_blocks": _always_zero("oft"),
        "boft_R": _always_zero("boft"),
        "boft_s": Marker("adapter", "boft"),
        "ia3_l": Marker("adapter", "ia3"),
        "vera_lambda_b": _always_zero("vera"),
        "vera_lambda_d": Marker("adapter", "vera"),
        "randlora_lambda": _always_zero("randlora"),
        "randlora_gamma": Marker("adapter", "randlora"),
        "miss_block": _always_zero("miss"),
        "shira_weight": _always_zero("shira"),
        "shira_indices": Marker("adapter", "shira"),
        "trainable_tokens_delta": Marker("adapter", "trainable_tokens"),
    }
)
"""Segments that alone make a tensor part of an adapter."""

SIBLING_MARKERS: Mapping[str, Marker] = MappingProxyType(
    {
        "alpha": Marker("alpha", "lora"),
        "magnitude": _MAGNITUDE,
        "rescale": Marker("adapter", "oft"),
        "diff": _always_zero("full"),
        "diff_b": _always_zero("full"),
        "w_norm": _always_zero("norm"),
        "b_norm": _always_zero("norm"),
    }
)
"""Segments that other models use too: they count beside a marker, or under a flat prefix."""

_DEFAULT_INITS = frozenset({"default", "gaussian", "eva"})
_WRAPPERS = ("modules_to_save", "original_module", "base_layer")


def assign_roles(tensors: Iterable[Tensor], adapter: AdapterConfig | None) -> tuple[Tensor, ...]:
    """Return the tensors with role, module, family and zero side filled in.

    ``adapter`` tells how the adapter was initialised; without it the default of its library is
    taken. An initialisation that is not known has no zero side: zeros prove nothing then.
    """
    known = tuple(tensors)
    modules = {
        parts.module for parts in (_split(tensor.name, MARKERS) for tensor in known) if parts
    }
    return tuple(_with_role(tensor, adapter, modules) for tensor in known)


def role_of(
    key: str, adapter: AdapterConfig | None = None, modules: Iterable[str] = ()
) -> Assignment:
    """Return what one key says; ``modules`` are those known to carry an adapter."""
    parts = _split(key, MARKERS) or _sibling(key, frozenset(modules))
    if parts is None:
        return _plain(key, adapter)
    if parts.tail == "bias":
        # `lora_bias=True`: the up layer's own bias, zero like the layer itself.
        return Assignment(parts.module, "bias", parts.marker.family, parts.marker.role == "lora_up")
    family = parts.marker.family
    if family == "lora" and adapter is not None and adapter.family not in {"", "lora"}:
        family = adapter.family
    return Assignment(parts.module, parts.marker.role, family, _starts_at_zero(parts, adapter))


@dataclass(frozen=True, slots=True)
class _Parts:
    module: str
    marker: Marker
    segment: str
    tail: str
    is_peft: bool


def _with_role(tensor: Tensor, adapter: AdapterConfig | None, modules: set[str]) -> Tensor:
    found = role_of(tensor.name, adapter, modules)
    return replace(
        tensor,
        role=found.role,
        module=found.module,
        family=found.family,
        zero_at_init=found.zero_at_init,
    )


def _split(key: str, markers: Mapping[str, Marker]) -> _Parts | None:
    """Split a key at its last marker; what follows it is an adapter's name and a tail."""
    is_peft = key.startswith(PEFT_PREFIX)
    segments = key.removeprefix(PEFT_PREFIX).split(".")
    for at in range(len(segments) - 1, -1, -1):
        marker = markers.get(segments[at])
        if marker is not None:
            tail = segments[-1] if at < len(segments) - 1 else ""
            return _Parts(".".join(segments[:at]), marker, segments[at], tail, is_peft)
    return None


def _sibling(key: str, modules: frozenset[str]) -> _Parts | None:
    parts = _split(key, SIBLING_MARKERS)
    if parts is None or parts.tail not in {"", "weight"}:
        return None
    return parts if parts.module in modules or parts.module.startswith(_FLAT_PREFIXES) else None


def _starts_at_zero(parts: _Parts, adapter: AdapterConfig | None) -> bool:
    init = adapter.init if adapter is not None else "default"
    marker = parts.marker
    if init == "mica":
        return marker.role == "lora_down"
    if init == "lycoris":
        return marker.zero_lycoris
    if init not in _DEFAULT_INITS:
        return False
    if adapter is not None and adapter.family == "adalora":
        return parts.segment == "lora_E"
    return marker.zero_peft if parts.is_peft else marker.zero_lycoris


def _plain(key: str, adapter: AdapterConfig | None) -> Assignment:
    """Return the assignment of a key without marker: a whole copy, a base weight, or unknown."""
    is_peft = key.startswith(PEFT_PREFIX)
    segments = key.removeprefix(PEFT_PREFIX).split(".")
    tail = segments[-1]
    wrapper = next((name for name in _WRAPPERS if name in segments), None)
    module = ".".join(segments[: segments.index(wrapper)] if wrapper else segments[:-1])
    if wrapper == "modules_to_save":
        return Assignment(module, "modules_to_save")
    if wrapper is not None:
        return Assignment(module, "bias" if tail == "bias" and is_peft else "base")
    if not is_peft:
        return Assignment(module, "other")
    saved = adapter.modules_to_save if adapter is not None else ()
    if tail == "bias" and not any(name in segments for name in saved):
        return Assignment(module, "bias")
    return Assignment(module, "modules_to_save")
