"""optimum-quanto: a weight becomes `weight._data` and `weight._scale`, below one byte packed.

Source: optimum/quanto/tensor/weights (`save_to_state_dict`) and tensor/packed.py of
https://github.com/huggingface/optimum-quanto.
"""

from __future__ import annotations

from sentinel.checkpoint import Tensor
from sentinel.formats.quantized.architecture import linear_shape
from sentinel.formats.quantized.stored import PRECISIONS, Packed, Shape, Stored

PARTS = frozenset(
    {
        "weight._data",
        "weight._data._data",
        "weight._scale",
        "weight._shift",
        "input_scale",
        "output_scale",
        "bias",
    }
)

_GROUP_SIZES = frozenset({32, 64, 96, 128})
_KINDS = {"I8": "quanto-int8", "U8": "quanto-int4"}


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; below one byte a bias or the model's configuration tells its shape."""
    codes = stored.parts.get("weight._data") or stored.parts.get("weight._data._data")
    if codes is None:
        return None
    compute = PRECISIONS.get(stored.dtype("weight._scale"))
    if "weight._shift" not in stored.parts and codes.dtype != "U8":
        scheme = _KINDS.get(codes.dtype, "quanto-float8")
        return Packed(scheme, codes, codes.shape, compute)
    return _below_one_byte(stored, codes, compute)


def _below_one_byte(stored: Stored, codes: Tensor, compute: str | None) -> Packed:
    """Return a weight whose values lie one behind the other in rows of one group each.

    A row of `weight._scale` stands for one group, so groups and their length give the number
    of values; how many of them make a row of the weight, a bias or the configuration tells. A
    length that is none of quanto's group sizes is that of a whole row.
    """
    scales = stored.shape("weight._scale")
    if scales is None or len(codes.shape) != 2:  # noqa: PLR2004 - groups by their length
        return Packed("quanto-int4", codes, (None, None), compute)
    groups, length = scales[0], codes.shape[1]
    per_byte = -(-groups // codes.shape[0]) if codes.shape[0] else 0
    scheme = "quanto-int2" if per_byte > 2 else "quanto-int4"  # noqa: PLR2004 - two nibbles
    shape = (groups, length) if length not in _GROUP_SIZES else None
    return Packed(scheme, codes, shape or _of_numel(stored, groups * length), compute)


def _of_numel(stored: Stored, numel: int) -> Shape:
    bias = stored.shape("bias", axes=1)
    if bias and bias[0] and numel % bias[0] == 0:
        return bias[0], numel // bias[0]
    expected = linear_shape(stored.description.model, stored.module)
    return expected if expected and expected[0] * expected[1] == numel else (None, None)
