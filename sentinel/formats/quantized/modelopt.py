"""ModelOpt's exports beside FP8 and NVFP4: INT4 packed along the outputs, MXFP4 along the inputs.

INT4 (its W4A16_AWQ, W4A8_AWQ and block-wise forms) keeps two rows in one, `weight` U8
[out/2, in], with `weight_scale` [out, groups]; MXFP4 has `weight` U8 [out, in/2] with
`weight_scale` U8 [out, in/32]. Source: modelopt/torch/export/quant_utils.py (`pack_int4_in_uint8`)
of https://github.com/NVIDIA/Model-Optimizer.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset(
    {"weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale", "prequant_scale"}
)

_PER_BYTE = 2
_MX_GROUP = 32
_SCALES = frozenset({"F32", "F16", "BF16"})


def unpack(stored: Stored) -> Packed | None:
    """Return the weight, which only a description by ModelOpt makes known."""
    words, scales = stored.shape("weight"), stored.shape("weight_scale")
    if stored.description.method != "modelopt" or stored.dtype("weight") != "U8":
        return None
    if words is None or scales is None:
        return None
    compute = stored.description.dtype or "bf16"
    codes, dtype = stored.parts["weight"], stored.dtype("weight_scale")
    if dtype in _SCALES and scales[0] == words[0] * _PER_BYTE:
        return Packed("modelopt-int4", codes, (scales[0], words[1]), compute)
    if dtype in {"U8", "F8_E8M0"} and scales == (words[0], words[1] * _PER_BYTE // _MX_GROUP):
        return Packed("mxfp4", codes, (words[0], words[1] * _PER_BYTE), compute)
    return None
