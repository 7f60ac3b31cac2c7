"""FP8: the weight keeps its shape; a scale a tensor, a row or a block lies beside it.

Names of the scale: `weight_scale_inv` (Transformers' fine-grained FP8, after DeepSeek),
`weight_scale` (fbgemm, compressed-tensors, ModelOpt), `scale_weight` (ComfyUI's scaled FP8,
which musubi-tuner writes too). Sources: transformers/integrations/finegrained_fp8.py,
https://github.com/comfyanonymous/ComfyUI (comfy/ops.py).
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset(
    {
        "weight",
        "weight_scale_inv",
        "weight_scale",
        "input_scale",
        "activation_scale",
        "scale_weight",
        "scale_input",
        "comfy_quant",
    }
)


def unpack(stored: Stored) -> Packed | None:
    """Return a weight whose codes are eight-bit floats, whatever scale lies beside it."""
    weight = stored.parts.get("weight")
    if weight is None or not weight.dtype.startswith("F8_"):
        return None
    # fbgemm's kernel gives bfloat16 only.
    is_forced = stored.description.method == "fbgemm_fp8"
    compute = "bf16" if is_forced else stored.description.dtype or "bf16"
    return Packed("fp8", weight, weight.shape, compute)
