"""The factor an adapter's B·A is multiplied with, by the rules of the library that wrote it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentinel.checkpoint import AdapterConfig

_Value = TypeVar("_Value", int, float)

_PATTERN_LENGTH = 200
_MODULE_LENGTH = 300
_REPEATS = re.compile(r"[*+{]")
_REPEATED_GROUP = re.compile(r"\)\s*[*+{]")
_REPEATS_ALLOWED = 2


def scale_of(
    module: str, rank: int, alpha: float | None, adapter: AdapterConfig | None
) -> tuple[float | None, float | None]:
    """Return ``(alpha, scale)`` of one module; ``scale`` is None when it cannot be known.

    ``alpha`` is the value of the module's own alpha tensor (kohya's convention: scale is
    alpha / rank, and 1 without such a tensor). Otherwise PEFT's LoraConfig counts: the first
    key of ``alpha_pattern`` and ``rank_pattern`` that matches the module, then ``lora_alpha``;
    alpha / r, or alpha / sqrt(r) under rank-stabilised LoRA (https://arxiv.org/abs/2312.03732).
    """
    if rank <= 0:
        return alpha, None
    if alpha is not None:
        return alpha, alpha / rank
    if adapter is None or adapter.alpha is None:
        return None, 1.0
    try:
        chosen_alpha = _chosen(adapter.alpha_pattern, module, adapter.alpha)
        chosen_rank = _chosen(adapter.rank_pattern, module, rank)
    except ValueError:
        return None, None
    if chosen_rank <= 0:
        return chosen_alpha, None
    divisor = math.sqrt(chosen_rank) if adapter.rslora else chosen_rank
    return chosen_alpha, chosen_alpha / divisor


def _chosen(patterns: Mapping[str, _Value], module: str, default: _Value) -> _Value:
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
