"""compressed-tensors: `weight_packed` with the true shape in `weight_shape`, or plain codes.

Four- and six-bit floats lie in bytes, with a scale for every 16 (NVFP4) or 32 (MXFP) values of a
row. The eight-bit floats of its formats look like any other FP8 weight. Source:
compressed_tensors/compressors of https://github.com/vllm-project/compressed-tensors.
"""

from __future__ import annotations

from sentinel.checkpoint import Tensor
from sentinel.formats.quantized.stored import Packed, Shape, Stored, counts_of
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
_NVFP_GROUP = 16
_MX_GROUP = 32
_FLOATS = {4: "mxfp4", 6: "mxfp6", 8: "mxfp8"}
_KNOWN_BITS = frozenset(range(2, 9))


def unpack(stored: Stored) -> Packed | None:
    """Return a packed integer or small float weight, or one of plain eight-bit integers."""
    weight = stored.parts.get("weight")
    if weight is not None and weight.dtype == "I8" and "weight_scale" in stored.parts:
        known = "comfy" if "comfy_quant" in stored.parts else "compressed-tensors"
        library = stored.description.method or known
        # Narrower codes may lie in whole bytes.
        return Packed(f"{library}-int{_declared_bits(stored) or 8}", weight, weight.shape)
    packed = stored.parts.get("weight_packed")
    if packed is None or len(packed.shape) != _MATRIX_AXES:
        return None
    if packed.dtype == "U8":
        return _small_floats(stored, packed)
    named = stored.parts.get("weight_shape")
    shape = _named_shape(stored, named) if named is not None else None
    bits = _declared_bits(stored) if shape is None else _bits(packed, shape)
    # Each group of the configuration may have bits of its own: the shape tells them.
    width = packed.shape[1] * 32 // bits if bits else None
    return Packed(f"compressed-tensors-int{bits or 4}", packed, shape or (packed.shape[0], width))


def _small_floats(stored: Stored, packed: Tensor) -> Packed:
    """Return a weight of four- or six-bit floats by its rows of scales."""
    scales = stored.shape("weight_scale")
    is_nvfp = "weight_global_scale" in stored.parts
    group = _NVFP_GROUP if is_nvfp else _MX_GROUP
    width = scales[1] * group if scales and scales[0] == packed.shape[0] else 0
    bits = packed.shape[1] * 8 / width if width else None
    shape: Shape = (packed.shape[0], width if bits in _FLOATS else None)
    scheme = "nvfp4" if is_nvfp else _FLOATS.get(int(bits or 0), "mxfp4")
    return Packed(scheme, packed, shape)


def _named_shape(stored: Stored, named: Tensor) -> tuple[int, ...] | None:
    numbers = counts_of(stored.read(named), named.dtype)
    return numbers if len(numbers) == _MATRIX_AXES else None


def _bits(packed: Tensor, shape: tuple[int, ...]) -> int | None:
    """Return how many of the words' bits each value has; the last word may not be full."""
    bits = packed.shape[1] * 32 // shape[1] if shape[1] else 0
    return bits if bits in _KNOWN_BITS else None


def _declared_bits(stored: Stored) -> int | None:
    """Return the bits that the groups of the configuration agree on."""
    groups = stored.description.settings.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and as_text(weights.get("type")) != "float":
            found.add(as_count(weights.get("num_bits")))
    bits = found.pop() if len(found) == 1 else None
    return bits if bits in _KNOWN_BITS else None
