"""torchao in safetensors: `_weight_qdata` and its scales, told apart in the file's metadata.

The metadata has a JSON text for each weight: its tensor class, its block size, the dtype it
stands for. Source: torchao/prototype/safetensors of https://github.com/pytorch/ao.
"""

from __future__ import annotations

import json

from sentinel.formats.quantized.stored import Packed, Shape, Stored, precision_named
from sentinel.formats.scalars import as_count, as_text

PARTS = frozenset(
    {
        "_weight_qdata",
        "_weight_scale",
        "_weight_zero_point",
        "_weight_scale_and_zero",
        "_weight_per_tensor_scale",
        "_weight_act_pre_scale",
    }
)

_MATRIX_AXES = 2
_LONGEST_TEXT = 64 * 1024


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; codes of one byte keep their shape, others tell it in the metadata."""
    codes = stored.parts.get("_weight_qdata")
    if codes is None:
        return None
    described = _described(stored.metadata(codes).get(f"{stored.module}.weight", ""))
    data = described.get("_data")
    settings: dict[str, object] = data if isinstance(data, dict) else {}
    kind = as_text(described.get("_type")) or ""
    shape: Shape = (None, None)
    if codes.dtype == "I8" or codes.dtype.startswith("F8_"):
        shape = codes.shape
    elif named := _named_shape(settings.get("shape")):
        shape = named
    dtype = settings.get("dtype")
    named_dtype = as_text(dtype.get("_data")) if isinstance(dtype, dict) else None
    return Packed(f"torchao-{_number_of(kind)}", codes, shape, precision_named(named_dtype))


def _described(text: str) -> dict[str, object]:
    if len(text) > _LONGEST_TEXT:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _named_shape(value: object) -> Shape | None:
    if not isinstance(value, list) or len(value) != _MATRIX_AXES:
        return None
    return tuple(as_count(extent) for extent in value)


def _number_of(kind: str) -> str:
    """Return "int8" of a class such as `Int8Tensor`."""
    name = kind.lower().partition("tensor")[0]
    return name if name.isalnum() and len(name) < 20 else "unknown"  # noqa: PLR2004 - a class name
