"""The factor an adapter's B·A is multiplied with, by the rules of the library that wrote it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sentinel.checkpoint import AdapterConfig

_Value = TypeVar("_Value", int, float)

_PATTERN_LENGTH = 200
_MODULE_LENGTH = 300
_REPEATS = re.compile(r"[*+{]")
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_REPEATS_ALLOWED = 2
_NESTED = ".base_layer"


def scale_of(
    module: str, rank: int, alpha: float | None, adapter: AdapterConfig | None
) -> tuple[float | None, float | None]:
    """Return ``(alpha, scale)`` of one module; ``scale`` is None when it cannot be known.

    ``rank`` is the module's own. ``alpha`` is the value of the module's own alpha tensor (kohya's
    convention: scale is alpha / rank, and 1 without such a tensor). Otherwise PEFT's LoraConfig
    counts: the first key of ``alpha_pattern`` that matches the module, then ``lora_alpha``;
    alpha / r, or alpha / sqrt(r) under rank-stabilised LoRA (https://arxiv.org/abs/2312.03732).
    """
    if rank <= 0:
        return alpha, None
    if alpha is not None:
        return alpha, alpha / rank
    if adapter is None or adapter.alpha is None:
        return None, 1.0
    chosen = _chosen(adapter.alpha_pattern, module, adapter.alpha, adapter)
    if chosen is None:
        return None, None
    return chosen, chosen / (math.sqrt(rank) if adapter.rslora else rank)


def rank_of(module: str, adapter: AdapterConfig | None) -> int | None:
    """Return the rank that a module was given, None when nothing tells or two answers fit."""
    if adapter is None or adapter.rank is None:
        return None
    return _chosen(adapter.rank_pattern, module, adapter.rank, adapter)


def is_parameter(module: str, adapter: AdapterConfig | None) -> bool:
    """Tell whether the adapter lies on a parameter of this module, not on the module's weight.

    Of a layer of experts [experts, in, out] A is then [experts·r, in] and B [out, r·experts]
    (`ParamWrapper` in peft/tuners/lora/layer.py of https://github.com/huggingface/peft).
    """
    return adapter is not None and any(_parameters(module, adapter))


def _parameters(module: str, adapter: AdapterConfig) -> Iterator[str]:
    """Yield the full names of a module's parameters that the adapter was told to lie on.

    Those after the first are wrapped around it, so that their keys hold `base_layer`.
    """
    outer = module.partition(_NESTED)[0]
    for target in adapter.target_parameters:
        owner, dot, name = target.rpartition(".")
        if dot and (outer == owner or outer.endswith(f".{owner}")):
            yield f"{outer}.{name}"


def _chosen(
    patterns: Mapping[str, _Value], module: str, default: _Value, adapter: AdapterConfig
) -> _Value | None:
    """Return what the patterns say of a module or of its parameters; None when they disagree."""
    names = list(_parameters(module, adapter)) or [module]
    try:
        found = {_first(patterns, name, default) for name in names}
    except ValueError:
        return None
    return found.pop() if len(found) == 1 else None


def _first(patterns: Mapping[str, _Value], module: str, default: _Value) -> _Value:
    """Return the value of the first pattern that matches, as PEFT's `get_pattern_key` does.

    Raises ValueError for a pattern that is no regular expression or could run for ever: the
    patterns come from a file that nobody has checked.
    """
    for pattern, value in patterns.items():
        if _matches(pattern, module):
            return value
    return default


def _matches(pattern: str, module: str) -> bool:
    slow = _REPEATED_GROUP.search(pattern) or len(_REPEATS.findall(pattern)) > _REPEATS_ALLOWED
    if slow or len(pattern) > _PATTERN_LENGTH or len(module) > _MODULE_LENGTH:
        raise ValueError(pattern)
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(pattern) from error
