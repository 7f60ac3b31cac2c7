"""What wrappers around a model left in the names of its tensors.

`torch.compile` puts `_orig_mod`, data-parallel training `module`, FSDP and activation checkpoints
names of their own, PEFT `base_layer` and the adapter's name, optimum-quanto `_data`. None of them
is part of a module's path; a loader that does not expect one finds no tensor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_SEGMENTS = (
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "base_layer",
    "original_module",
    "_data",
    "_scale",
    "_shift",
)
_FIRST_ONLY = "module"
_ADAPTER = re.compile(
    r"\.(?:lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector)|hada_\w+|lokr_\w+|oft_\w+"
    r"|boft_\w+|ia3_l|vera_lambda_[bd])\.(?P<name>(?!weight$|bias$)[^.]{1,100})(?:\.weight|\.bias)?$"
)
_MOST_ADAPTERS = 5


def wrappers_in(names: Iterable[str]) -> str:
    """Return the wrappers in tensors' names, each with its dot: ``"_orig_mod., default."``."""
    return _wrappers_in(tuple(names))


@lru_cache(4)
def _wrappers_in(names: tuple[str, ...]) -> str:
    # The checkpoints of a run have the same names again and again.
    segments: set[str] = set()
    adapters: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        segments.update(part for part in parts[1:] if part != _FIRST_ONLY)
        segments.add(parts[0])
        match = _ADAPTER.search(name)
        if match and len(adapters) < _MOST_ADAPTERS:
            adapters.setdefault(match["name"])
    found = [one for one in _SEGMENTS if one in segments]
    return ", ".join(f"{one}." for one in (*found, *adapters))


def adapter_name(key: str) -> str | None:
    """Return the name of its adapter that a tensor's key still carries, None without one."""
    match = _ADAPTER.search(key)
    return match["name"] if match else None


def without_adapter_name(key: str) -> str:
    """Return a key without the name of its adapter: ``lora_A.weight`` for both of PEFT's forms."""
    match = _ADAPTER.search(key)
    return f"{key[: match.start('name') - 1]}{key[match.end('name') :]}" if match else key
