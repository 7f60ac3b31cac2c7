"""A weight that is not packed, or packed in a way nobody here knows."""

from __future__ import annotations

from sentinel.checkpoint import Tensor
from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset({"weight", ""})

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_CODES = frozenset({"U8", "I8", "I16", "I32", "U32", "F4"})
_MATRIX_AXES = 2


def unpack(stored: Stored) -> Packed | None:
    """Return the weight as it is; the shape of codes nobody knows is not told.

    A parameter without the name ``weight`` (experts stacked in one) is there, its axes have no
    known order. Codes under other names are there too, so that nobody misses their module.
    """
    weight = stored.parts.get("weight")
    if weight is not None:
        if weight.dtype in _FLOATS:
            return Packed("none", weight, weight.shape)
        return Packed(_unknown(stored), weight)
    parameter = stored.parts.get("")
    if parameter is not None and parameter.dtype in _FLOATS:
        return Packed("none", parameter) if len(parameter.shape) >= _MATRIX_AXES else None
    codes = next(filter(_is_codes, stored.parts.values()), None)
    return Packed(_unknown(stored), codes) if codes is not None else None


def _unknown(stored: Stored) -> str:
    return stored.description.method or "unknown"


def _is_codes(tensor: Tensor) -> bool:
    return tensor.dtype in _CODES and len(tensor.shape) >= _MATRIX_AXES
