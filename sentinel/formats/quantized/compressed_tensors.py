"""compressed-tensors: `weight_packed` with the true shape in `weight_shape`, or plain codes.

The eight-bit floats of its format `float-quantized` look like any other FP8 weight. Source:
compressed_tensors/compressors of https://github.com/vllm-project/compressed-tensors.
"""

from __future__ import annotations

from sentinel.checkpoint import Tensor
from sentinel.formats.quantized.stored import Packed, Stored, codes_per_word, counts_of
from sentinel.formats.scalars import as_count, as_text

PARTS = frozenset(
    {
        "weight",
        "weight_packed",
        "weight_scale",
        "weight_zero_point",
        "weight_g_idx",
        "weight_shape",
        "weight_global_scale",
        "input_global_scale",
        "input_scale",
        "input_zero_point",
    }
)

_MATRIX_AXES = 2


def unpack(stored: Stored) -> Packed | None:
    """Return a packed integer or four-bit float weight, or one of plain eight-bit integers."""
    weight = stored.parts.get("weight")
    if weight is not None and weight.dtype == "I8" and "weight_scale" in stored.parts:
        return Packed("compressed-tensors-int8", weight, weight.shape)
    packed = stored.parts.get("weight_packed")
    if packed is None or len(packed.shape) != _MATRIX_AXES:
        return None
    if packed.dtype == "U8":
        # Only NVFP4 has a second scale for the whole tensor.
        scheme = "nvfp4" if "weight_global_scale" in stored.parts else "mxfp4"
        return Packed(scheme, packed, (packed.shape[0], packed.shape[1] * 2))
    bits = _bits(stored)
    named = stored.parts.get("weight_shape")
    shape = _named_shape(stored, named) if named is not None else None
    width = packed.shape[1] * codes_per_word(packed.dtype, bits or 4)
    known = (packed.shape[0], width if bits else None)
    return Packed(f"compressed-tensors-int{bits or 4}", packed, shape or known)


def _named_shape(stored: Stored, named: Tensor) -> tuple[int, ...] | None:
    numbers = counts_of(stored.read(named), named.dtype)
    return numbers if len(numbers) == _MATRIX_AXES else None


def _bits(stored: Stored) -> int | None:
    """Return the bits that the groups of the configuration agree on."""
    groups = stored.description.settings.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and as_text(weights.get("type")) != "float":
            found.add(as_count(weights.get("num_bits")))
    bits = found.pop() if len(found) == 1 else None
    return bits if bits in {2, 3, 4, 8} else None
