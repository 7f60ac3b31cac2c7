"""A weight that is not packed, or packed in a way nobody here knows."""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset({"weight", ""})

_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_MATRIX_AXES = 2


def unpack(stored: Stored) -> Packed | None:
    """Return the weight as it is; the shape of codes nobody knows is not told.

    A parameter without the name ``weight`` (experts stacked in one) is there, its axes have no
    known order.
    """
    weight = stored.parts.get("weight")
    if weight is not None:
        if weight.dtype in _FLOATS:
            return Packed("none", weight, weight.shape)
        return Packed(stored.description.method or "unknown", weight)
    parameter = stored.parts.get("")
    if parameter is None or parameter.dtype not in _FLOATS or len(parameter.shape) < _MATRIX_AXES:
        return None
    return Packed("none", parameter)
