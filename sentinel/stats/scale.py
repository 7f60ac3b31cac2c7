"""The factor an adapter's B·A is multiplied with, by the rules of the library that wrote it."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sentinel.checkpoint import AdapterConfig

_Value = TypeVar("_Value", int, float)

_PATTERN_LENGTH = 200
_MODULE_LENGTH = 300
_MOST_STEPS = 300_000
"""Ways to try for one module: some milliseconds."""

_MOST_PATTERNS = 200
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]*")
_REPEATED_GROUP = re.compile(r"\)\s*[*+{?]")
_BACKWARD = re.compile(r"\\[1-9]|\(\?")
_AMBIGUOUS = re.compile(r"\[\[|--|&&|~~|\|\|")
"""What Python warns about: it may mean sets of characters one day."""
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

    A plain name, which a rank of its own for every module gives by the thousand, is looked up.
    Raises ValueError for a pattern that is no regular expression or could run for ever: the
    patterns come from a file that nobody has checked.
    """
    places, others = _divided(_ById(patterns))
    if len(others) > _MOST_PATTERNS or len(module) > _MODULE_LENGTH:
        raise ValueError(module)
    segments = module.split(".")
    names = {".".join(segments[at:]) for at in range(len(segments))}
    found = [name for name in names if name in places]
    steps = 0
    for pattern in others:
        steps += _steps(pattern, module)
        if steps > _MOST_STEPS or len(pattern) > _PATTERN_LENGTH:
            raise ValueError(pattern)
        try:
            if _compiled(pattern).match(module):
                found.append(pattern)
                break
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(pattern) from error
    return patterns[min(found, key=places.__getitem__)] if found else default


class _ById:
    """The patterns of one adapter, which nobody changes, as a key that costs nothing to compare."""

    def __init__(self, patterns: Mapping[str, object]) -> None:
        self.patterns = patterns

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.patterns is self.patterns

    def __hash__(self) -> int:
        return id(self.patterns)


@lru_cache(maxsize=4)
def _divided(key: _ById) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return each pattern's place, and those that are more than a name."""
    places = {pattern: at for at, pattern in enumerate(key.patterns)}
    return places, tuple(pattern for pattern in places if not _PLAIN.fullmatch(pattern))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({pattern})$")


@lru_cache(maxsize=1024)
def _factors(pattern: str) -> tuple[int, int]:
    """Return how many repetitions a pattern has, and in how many other ways it can be taken.

    Raises ValueError for what can be of any cost: a repeated group, and what looks around or back.
    """
    bare = pattern.replace("(?:", "(")
    if any(odd.search(bare) for odd in (_REPEATED_GROUP, _BACKWARD, _AMBIGUOUS)):
        raise ValueError(pattern)
    places = bare.count("(") + 1
    bars = bare.count("|")
    ways = (-(-bars // places) + 1) ** min(places, bars)
    return len(re.findall(r"[*+{]", bare)), ways * 2 ** bare.count("?")


def _steps(pattern: str, module: str) -> int:
    """Return a bound of the ways in which a module's name may be tried against a pattern."""
    repeats, ways = _factors(pattern)
    tries: int = (len(module) + 1) ** repeats * ways
    return tries
