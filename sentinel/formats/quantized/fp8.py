"""FP8: the weight keeps its shape; a scale a tensor, a row or a block lies beside it.

Names of the scale: `weight_scale_inv` (Transformers' fine-grained FP8, after DeepSeek),
`weight_scale` (fbgemm, compressed-tensors, ModelOpt), `scale_weight` (ComfyUI's scaled FP8,
which musubi-tuner writes too); beside stacked experts `<name>_scale_inv` and `<name>_scale`.
Sources: transformers/integrations/finegrained_fp8.py,
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
        "_scale_inv",
        "_scale",
        "",
    }
)


def unpack(stored: Stored) -> Packed | None:
    """Return a weight whose codes are eight-bit floats, whatever scale lies beside it.

    Of a parameter that stacks the experts of a layer the order of the axes is not known.
    """
    weight = stored.parts.get("weight") or stored.parts.get("")
    if weight is None or not weight.dtype.startswith("F8_"):
        return None
    # fbgemm's kernel gives bfloat16 only.
    is_forced = stored.description.method == "fbgemm_fp8"
    compute = "bf16" if is_forced else stored.description.dtype or "bf16"
    shape = weight.shape if "weight" in stored.parts else (None, None)
    return Packed("fp8", weight, shape, compute)
