"""torchao in safetensors: `_weight_qdata` and its scales, told apart in the file's metadata.

The metadata has a JSON text for each weight: its tensor class, its block size, the dtype it
stands for. Source: torchao/prototype/safetensors of https://github.com/pytorch/ao.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from sentinel.formats.quantized.stored import Packed, Shape, Stored, precision_named
from sentinel.formats.scalars import as_count, as_text

PARTS = frozenset(
    {
        "_weight_qdata",
        "_weight_scale",
        "_weight_zero_point",
        "_weight_scale_and_zero",
        "_weight_per_tensor_scale",
        "_weight_act_per_tensor_scale",
        "_weight_act_pre_scale",
    }
)

_MATRIX_AXES = 2
_LONGEST_TEXT = 64 * 1024
_CLASS = re.compile(r"(nvfp|int|float)\d+")
_ELEMENT = re.compile(r"u?int\d+|float\d+")


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; codes of one byte keep their shape, others tell it in the metadata."""
    codes = stored.parts.get("_weight_qdata")
    if codes is None:
        return None
    described = _described(stored.metadata(codes).get(f"{stored.module}.weight", ""))
    data = described.get("_data")
    settings: dict[str, object] = data if isinstance(data, dict) else {}
    kind = kind_of(as_text(described.get("_type")) or "", _element(settings))
    shape: Shape = (None, None)
    if codes.dtype == "I8" or codes.dtype.startswith("F8_"):
        shape = codes.shape
    elif named := _named_shape(settings.get("shape")):
        shape = named
    elif codes.dtype == "U8" and kind.endswith("fp4") and len(codes.shape) == _MATRIX_AXES:
        shape = (codes.shape[0], codes.shape[1] * 2)
    return Packed(f"torchao-{kind}", codes, shape, _precision(settings))


def kind_of(tensor_class: str, element: str = "") -> str:
    """Return "int8" of a class such as `Int8Tensor`, by its element where the class has none."""
    name = tensor_class.lower()
    if name.startswith("mx"):
        return "mxfp4" if element.startswith("float4") else "mxfp8"
    named = _CLASS.match(name) or _ELEMENT.match(element)
    return named[0] if named else "unknown"


def _element(settings: Mapping[str, object]) -> str:
    """Return the dtype of one code, which classes for several of them keep as a setting."""
    return next(
        (text for name in ("target_dtype", "elem_dtype") if (text := _dtype(settings, name))), ""
    )


def _precision(settings: Mapping[str, object]) -> str | None:
    for name in ("dtype", "orig_dtype", "activation_dtype"):
        precision = precision_named(_dtype(settings, name))
        if precision is not None:
            return precision
    return None


def _dtype(settings: Mapping[str, object], name: str) -> str | None:
    value = settings.get(name)
    return as_text(value.get("_data")) if isinstance(value, dict) else None


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
