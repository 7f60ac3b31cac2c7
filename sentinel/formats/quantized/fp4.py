"""Four-bit floats, two in a byte along the inputs: NVFP4 (ModelOpt, ComfyUI) and gpt-oss' MXFP4.

NVFP4 has an FP8 scale for 16 values in `weight_scale` and one for the tensor; MXFP4 keeps
experts as `<name>_blocks` [experts, rows, groups, 16] with `<name>_scales` [experts, rows, groups].
Sources: modelopt/torch/export of https://github.com/NVIDIA/Model-Optimizer,
transformers/integrations/mxfp4.py.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset(
    {
        "weight",
        "weight_scale",
        "weight_scale_2",
        "input_scale",
        "pre_quant_scale",
        "comfy_quant",
        "_blocks",
        "_scales",
    }
)

_PER_BYTE = 2
_BLOCK_AXES = 4


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; of experts the shape of one, without the axis of experts."""
    compute = stored.description.dtype or "bf16"
    blocks = stored.shape("_blocks", axes=_BLOCK_AXES)
    if blocks and "_scales" in stored.parts:
        shape = (blocks[1], blocks[2] * blocks[3] * _PER_BYTE)
        return Packed("mxfp4", stored.parts["_blocks"], shape, compute)
    words = stored.shape("weight")
    is_packed = stored.dtype("weight") in {"U8", "F4"} and stored.dtype("weight_scale") == "F8_E4M3"
    if words is None or not is_packed:
        return None
    width = words[1] * _PER_BYTE if stored.dtype("weight") == "U8" else words[1]
    return Packed("nvfp4", stored.parts["weight"], (words[0], width), compute)
