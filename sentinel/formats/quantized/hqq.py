"""HQQ: `W_q` in groups, with everything about it as small tensors beside it.

In `qmodel.pt`, which its own models save, they are plain numbers. Source: hqq/core/quantize.py
(`HQQLinear.state_dict`) and hqq/models/base.py of https://github.com/mobiusml/hqq.
"""

from __future__ import annotations

from sentinel.formats.containers.pickle_nodes import Global
from sentinel.formats.quantized.stored import Packed, Stored, counts_of, precision_named
from sentinel.formats.scalars import as_count, brief

PARTS = frozenset(
    {
        "W_q",
        "scale",
        "zero",
        "shape",
        "nbits",
        "group_size",
        "axis",
        "packing",
        "compute_dtype",
        "view_as_float",
        "unpack_view_dtype",
        "encoded_state_dict",
        "stores_quant_config",
        "channel_wise",
        "offload_meta",
        "optimize",
        "quant_scale",
        "quant_zero",
        "round_zero",
    }
)

_MATRIX_AXES = 2


def unpack(stored: Stored) -> Packed | None:
    """Return the weight by its tensors `shape` and `nbits`; texts lie as ASCII codes."""
    codes = stored.parts.get("W_q")
    if codes is None:
        return None
    extents = _numbers(stored, "shape")
    bits = _numbers(stored, "nbits") or (stored.description.bits,)
    return Packed(
        f"hqq-int{bits[0]}",
        codes,
        extents if len(extents) == _MATRIX_AXES else (None, None),
        precision_named(_text(stored, "compute_dtype")),
    )


def _numbers(stored: Stored, part: str) -> tuple[int, ...]:
    tensor = stored.parts.get(part)
    if tensor is not None:
        return counts_of(stored.read(tensor), tensor.dtype)
    value = stored.values.get(part)
    counts = [as_count(one) for one in (value if isinstance(value, tuple) else (value,))]
    return tuple(count for count in counts if count is not None)


def _text(stored: Stored, part: str) -> str:
    tensor = stored.parts.get(part)
    if tensor is None or tensor.dtype != "U8":
        value = stored.values.get(part, "")
        # A dtype, by its name in torch.
        return f"{value!s:.200}" if isinstance(value, Global) else brief(value)
    return stored.read(tensor).decode("ascii", "replace")
