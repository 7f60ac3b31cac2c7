"""Every scheme in the order they are asked, and a model's keys sorted by module."""

from __future__ import annotations

from collections.abc import Mapping

from sentinel.checkpoint import Tensor
from sentinel.formats.quantized import (
    awq,
    bitsandbytes,
    compressed_tensors,
    fp4,
    fp8,
    gptq,
    hqq,
    mlx,
    modelopt,
    plain,
    quanto,
    torchao,
)
from sentinel.formats.quantized.stored import Packed, Scheme, Stored

# AWQ before GPTQ, whose parts have the same names; what is not packed, or unknown, last.
SCHEMES: tuple[Scheme, ...] = (
    bitsandbytes,
    quanto,
    torchao,
    hqq,
    compressed_tensors,
    fp4,
    fp8,
    modelopt,
    mlx,
    awq,
    gptq,
    plain,
)

WRAPPERS = frozenset(
    {"base_layer", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Segments of a key that belong to whoever wrapped the model, not to the model."""

_PEFT_PREFIX = "base_model.model."
_ADAPTER_SEGMENTS = ("lora_", "hada_", "lokr_", "oft_", "boft_", "vera_", "ia3_")
_GLUED = ("_blocks", "_scales", "_scale_inv", "_scale")
_PARTS = frozenset().union(*(scheme.PARTS for scheme in SCHEMES))
_DEEPEST = max(part.count(".") for part in _PARTS) + 1


def unpack(stored: Stored) -> Packed | None:
    """Return the weight of one module, None when it holds none."""
    return next((packed for scheme in SCHEMES if (packed := scheme.unpack(stored))), None)


def by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Sort tensors by the module they belong to and by what follows its name in their keys."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, part = split_key(key)
        if not _is_adapter(module):
            modules.setdefault(module, {}).setdefault(part, tensor)
    return modules


def split_key(key: str) -> tuple[str, str]:
    """Return the module of a key, without wrappers, and what follows it: ("q", "weight._data")."""
    name = key.removeprefix(_PEFT_PREFIX).removeprefix("module.")
    segments = [segment for segment in name.split(".") if segment not in WRAPPERS]
    for width in range(min(_DEEPEST, len(segments) - 1), 0, -1):
        part = ".".join(segments[-width:])
        if part in _PARTS:
            return ".".join(segments[:-width]), part
    name = ".".join(segments)
    glued = next((end for end in _GLUED if name.endswith(end)), "")
    return name.removesuffix(glued), glued


def _is_adapter(module: str) -> bool:
    return any(segment.startswith(_ADAPTER_SEGMENTS) for segment in module.split("."))
