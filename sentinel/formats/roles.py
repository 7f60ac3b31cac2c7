"""From a tensor's key to its module, its role, its adapter family, and whether it starts at zero.

A key is ``<prefix><module>.<marker>[.<adapter>][.weight]``; the marker tells the rest. Names
that wrappers put between (``module.`` of data-parallel training, ``_orig_mod.`` of a compiled
model, ``base_layer`` of an adapter over an adapter) are no part of the module.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

from sentinel.checkpoint import AdapterConfig, Tensor
from sentinel.formats.markers import DIFFUSERS_MARKERS, MARKERS, SIBLING_MARKERS, Marker, Way

if TYPE_CHECKING:
    from sentinel.checkpoint import Role

PEFT_PREFIX = "base_model.model."

_PEFT_ROOT = "base_model."
_FLAT_PREFIXES = ("lora_", "lycoris_")
_DIFFUSERS_ROOTS = ("transformer.", "unet.")
_ADAPTER_ROOTS = (*_FLAT_PREFIXES, "diffusion_model.", "text_encoders.")
_HOLDERS = frozenset({"model", "net", "network", "_forward_module"})
"""Attributes under which a training module of Lightning's keeps the model it trains."""

_BASE_LAYER = "base_layer"
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_COPIES = ("modules_to_save", "original_module", _BASE_LAYER)
_INNER = frozenset({_BASE_LAYER, "token_adapter"})
"""What PEFT puts between a module and its adapter: the layer below, the rows of some tokens."""

_FACTORS = frozenset({"lora_up", "lora_down"})
_PACKED = frozenset({"_data", "_scale", "_shift"})
_DIFFUSERS_LAYERS = frozenset({"lora", "lora_linear_layer"})
_PROCESSOR_SUFFIX = "_lora"

_REMEMBERED = 4
"""Sets of names whose meaning is kept: a few runs', each some hundred kilobytes."""

_ZERO_INITS = frozenset({"default", "gaussian", "eva"})
_MISS_INITS = frozenset({"bat", "mini"})


class Assignment(NamedTuple):
    """What a key says about its tensor."""

    module: str
    role: Role
    family: str = ""
    zero_at_init: bool = False


def assign_roles(tensors: Iterable[Tensor], adapter: AdapterConfig | None) -> tuple[Tensor, ...]:
    """Return the tensors with role, module, family and zero side filled in.

    ``adapter`` tells how the adapter was initialised; without it the default of its library is
    taken. An initialisation that is not known has no zero side: zeros prove nothing then.
    """
    known = tuple(tensors)
    told = None if adapter is None else (adapter.family, adapter.init, adapter.modules_to_save)
    found = _assignments(tuple(tensor.name for tensor in known), told)
    return tuple(starmap(_with_role, zip(known, found, strict=True)))


@lru_cache(_REMEMBERED)
def _assignments(
    names: tuple[str, ...], told: tuple[str, str, tuple[str, ...]] | None
) -> tuple[Assignment, ...]:
    """Return what each name says; the checkpoints of a run have the same names again and again.

    ``told`` is what counts of the adapter's configuration: family, init, modules_to_save.
    """
    adapter = (
        None if told is None else AdapterConfig(told[0], init=told[1], modules_to_save=told[2])
    )
    modules, with_base = adapted_modules(names), holds_base(names)
    return _told_apart(
        names, [role_of(name, adapter, modules, with_base=with_base) for name in names]
    )


def holds_base(keys: Iterable[str]) -> bool:
    """Tell whether keys are those of a whole PEFT model, its frozen base among them.

    PEFT saves an adapter without its name in the keys; a trainer that saves all parameters
    leaves it there (``lora_A.default.weight``), and has each adapted weight as ``base_layer``.
    """
    known = list(keys)
    return any(f".{_BASE_LAYER}." in key for key in known) and any(
        parts.is_named for parts in map(_marked, known) if parts
    )


def adapted_modules(keys: Iterable[str]) -> frozenset[str]:
    """Return the modules that carry an adapter, by the keys that alone prove it."""
    return frozenset(parts.module for parts in map(_marked, keys) if parts)


def is_adapter_key(key: str) -> bool:
    """Tell whether a key alone proves that its tensor belongs to an adapter."""
    return _marked(key) is not None or _sibling(key, frozenset()) is not None


def role_of(
    key: str,
    adapter: AdapterConfig | None = None,
    modules: Iterable[str] = (),
    *,
    with_base: bool = False,
) -> Assignment:
    """Return what one key says; ``modules`` are those known to carry an adapter.

    ``with_base`` is what `holds_base` says of all keys.
    """
    adapted = frozenset(modules)
    parts = _marked(key) or _sibling(key, adapted)
    if parts is None:
        return _plain(key, adapter, with_base=with_base)
    if parts.tail == "bias" and parts.marker.role in {"lora_up", "lora_down"}:
        # `lora_bias=True`: the up layer's own bias, zero like the layer itself.
        return Assignment(parts.module, "bias", parts.marker.family, parts.marker.role == "lora_up")
    family = parts.marker.family
    if family in {"lora", "prompt"} and adapter is not None and adapter.family not in {"", "lora"}:
        family = adapter.family
    return Assignment(parts.module, parts.marker.role, family, _starts_at_zero(parts, adapter))


class _Parts(NamedTuple):
    module: str
    marker: Marker
    tail: str
    is_peft: bool
    is_named: bool = False


def _with_role(tensor: Tensor, found: Assignment) -> Tensor:
    # Four times as fast as `dataclasses.replace`, for thousands of tensors.
    return Tensor(
        name=tensor.name,
        member=tensor.member,
        dtype=tensor.dtype,
        shape=tensor.shape,
        offset=tensor.offset,
        size_bytes=tensor.size_bytes,
        role=found.role,
        module=found.module,
        family=found.family,
        zero_at_init=found.zero_at_init,
        strides=tensor.strides,
        big_endian=tensor.big_endian,
        pieces=tensor.pieces,
    )


def _told_apart(names: Iterable[str], found: Iterable[Assignment]) -> tuple[Assignment, ...]:
    """Give adapters that lie one around the other on a module names of their own.

    PEFT wraps a module once for each of its parameters that carries an adapter
    (`target_parameters`): all but the outermost keep `base_layer` in their name.
    """
    together = tuple(zip(names, found, strict=True))
    depths: dict[str, set[int]] = {}
    for name, one in together:
        if one.role in _FACTORS:
            depths.setdefault(one.module, set()).add(_depth(name))
    return tuple(
        one._replace(module=one.module + f".{_BASE_LAYER}" * _depth(name))
        if one.role in _FACTORS and len(depths[one.module]) > 1
        else one
        for name, one in together
    )


def _depth(key: str) -> int:
    """Return how many wrapped layers stand directly before a key's marker."""
    before, found, _after = key.rpartition(".lora_")
    segments = before.split(".") if found else []
    return next((at for at, one in enumerate(reversed(segments)) if one != _BASE_LAYER), 0)


def _segments(key: str) -> tuple[list[str], bool]:
    """Return a key's segments without wrappers and PEFT's prefix, and whether it had that."""
    found = [segment for segment in key.split(".") if segment not in _WRAPPERS] or [key]
    while len(found) > 1 and found[0] == "module":
        del found[0]
    if f"{'.'.join(found[1:3])}." == PEFT_PREFIX and found[0] in _HOLDERS:
        del found[0]
    is_peft = len(found) > 1 and f"{found[0]}." == _PEFT_ROOT
    if is_peft:
        found = found[2:] if ".".join(found).startswith(PEFT_PREFIX) else found[1:]
    return found, is_peft


def _marked(key: str) -> _Parts | None:
    """Split a key at its last marker; what follows it is an adapter's name and a tail."""
    segments, is_peft = _segments(key)
    for at in range(len(segments) - 1, -1, -1):
        marker = MARKERS.get(".".join(segments[at : at + 2])) or MARKERS.get(segments[at])
        if marker is not None:
            return _parts(segments[:at], marker, segments[at + 1 :], is_peft=is_peft)
        older = DIFFUSERS_MARKERS.get(segments[at])
        module = _diffusers_module(segments[:at]) if older else None
        if older is not None and module is not None:
            return _parts(module, older, segments[at + 1 :], is_peft=is_peft)
    return None


def _diffusers_module(before: list[str]) -> list[str] | None:
    """Return the module before an older diffusers marker, None when there is no such marker.

    ``x.to_q.lora.down`` and ``x.to_q.lora_linear_layer.down`` belong to ``x.to_q``, and so does
    ``x.processor.to_q_lora.down`` (https://github.com/huggingface/diffusers,
    src/diffusers/utils/state_dict_utils.py).
    """
    if not before:
        return None
    if before[-1] in _DIFFUSERS_LAYERS:
        return before[:-1]
    name = before[-1].removesuffix(_PROCESSOR_SUFFIX)
    if name == before[-1] or not name:
        return None
    outer = before[:-2] if before[-2:-1] == ["processor"] else before[:-1]
    return [*outer, *(["to_out", "0"] if name == "to_out" else [name])]


def _parts(before: list[str], marker: Marker, after: list[str], *, is_peft: bool) -> _Parts:
    module = [segment for segment in before if segment not in _INNER]
    if len(module) > 1 and module[-1] == "weight":
        # llama.cpp names the parameter that is changed, not its module.
        del module[-1]
    tail = after[-1] if after else ""
    is_named = is_peft and len(after) > (1 if tail in {"weight", "bias"} else 0)
    return _Parts(".".join(module), marker, tail, is_peft, is_named)


def _sibling(key: str, modules: frozenset[str]) -> _Parts | None:
    """Split a key at a marker that counts only where its module is known for an adapter's."""
    segments, is_peft = _segments(key)
    if len(segments) > 1 and segments[-1] == "weight" and ".".join(segments[:-1]) in modules:
        # LyCORIS' IA3: the only family whose own tensor has no name but this.
        return _parts(segments[:-1], _LYCORIS_IA3, [], is_peft=is_peft)
    at = len(segments) - (2 if segments[-1] == "weight" else 1)
    marker = SIBLING_MARKERS.get(segments[at]) if at >= 0 else None
    if marker is None:
        return None
    parts = _parts(segments[:at], marker, segments[at + 1 :], is_peft=is_peft)
    # ai-toolkit trains norms whole, under the model's own root; no base has tensors named so.
    is_whole = marker.family in {"full", "norm"}
    roots = (*_ADAPTER_ROOTS, *_DIFFUSERS_ROOTS) if is_whole else _ADAPTER_ROOTS
    is_known = parts.module in modules or parts.module.startswith(roots)
    return parts if is_known else None


def _starts_at_zero(parts: _Parts, adapter: AdapterConfig | None) -> bool:
    init = adapter.init if adapter is not None else "default"
    marker = parts.marker
    if marker.family == "lora":
        if adapter is not None and adapter.family == "adalora":
            return False
        if init == "mica":
            return marker.role == "lora_down"
    way = _way(init, marker.family, is_peft=parts.is_peft)
    return way is not None and way in marker.zero


def _way(init: str, family: str, *, is_peft: bool) -> Way | None:
    """Return how an initialisation's name says that the tensors were set, None: not at zero."""
    if init == "lycoris":
        return "lycoris"
    if init == "scalar":
        return "scalar"
    # What `gaussian` names in C3A is the one tensor itself; AdaMSS calls its own start orthogonal.
    known = init == "default" or (init in _ZERO_INITS and family != "c3a")
    if family == "adamss":
        known = init == "orthogonal"
    if not known and not (family == "miss" and init in _MISS_INITS):
        return None
    return "peft" if is_peft else "lycoris"


def _plain(key: str, adapter: AdapterConfig | None, *, with_base: bool) -> Assignment:
    """Return the assignment of a key without marker: a whole copy, a base weight, or unknown."""
    segments, is_peft = _segments(key)
    while len(segments) > 2 and segments[-1] in _PACKED:  # noqa: PLR2004 - module, name, wrapper
        del segments[-1]
    tail = segments[-1]
    wrapper = next((name for name in _COPIES if name in segments), None)
    module = ".".join(segments[: segments.index(wrapper)] if wrapper else segments[:-1])
    if wrapper == "modules_to_save":
        return Assignment(module, "modules_to_save")
    if wrapper is not None:
        is_trained = tail == "bias" and is_peft and not with_base
        return Assignment(module, "bias" if is_trained else "base")
    if not is_peft or with_base:
        return Assignment(module, "base" if is_peft else "other")
    saved = adapter.modules_to_save if adapter is not None else ()
    if tail == "bias" and not any(name in segments for name in saved):
        return Assignment(module, "bias")
    return Assignment(module, "modules_to_save")


_LYCORIS_IA3 = Marker("adapter", "ia3", frozenset({"lycoris", "scalar"}))
