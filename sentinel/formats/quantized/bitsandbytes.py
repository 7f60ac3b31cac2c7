"""bitsandbytes: NF4 and FP4 (the true shape lies in a JSON text beside the codes), LLM.int8().

Source: bitsandbytes/functional.py (`QuantState.as_dict`) and nn/modules.py of
https://github.com/bitsandbytes-foundation/bitsandbytes; GPTQModel writes the same parts with
underscores (gptqmodel/nn_modules/qlinear/bitsandbytes.py).
"""

from __future__ import annotations

from pathlib import Path

from sentinel.checkpoint import Tensor
from sentinel.formats.containers.json_text import parse_json_object
from sentinel.formats.quantized.stored import Packed, Stored, precision_named
from sentinel.formats.scalars import as_count, as_text

_STATE = "weight.quant_state.bitsandbytes__"

PARTS = frozenset(
    {
        "weight",
        "weight.absmax",
        "weight.quant_map",
        "weight.nested_absmax",
        "weight.nested_quant_map",
        f"{_STATE}nf4",
        f"{_STATE}fp4",
        "SCB",
        "weight_format",
        "weight_absmax",
        "weight_quant_map",
        "weight_nested_absmax",
        "weight_nested_quant_map",
        "weight_quant_state",
        "weight_scb",
    }
)

_STATES = {_STATE + "nf4": "nf4", _STATE + "fp4": "fp4", "weight_quant_state": "nf4"}


def unpack(stored: Stored) -> Packed | None:
    """Return a 4-bit weight by its state, an 8-bit one by its row scales ``SCB``."""
    weight = stored.parts.get("weight")
    if weight is None:
        return None
    for name, kind in _STATES.items():
        state = stored.parts.get(name)
        if state is not None:
            return _four_bit(stored, weight, state, kind)
    if weight.dtype == "I8" and stored.parts.keys() & {"SCB", "weight_scb"}:
        # MatMul8bitLt rounds its inputs through float16, and gives them back in their own dtype.
        return Packed("int8", weight, weight.shape, stored.description.dtype)
    return None


def _four_bit(stored: Stored, weight: Tensor, state: Tensor, kind: str) -> Packed:
    content = parse_json_object(Path(state.member), stored.read(state))
    shape = content.get("shape")
    extents = tuple(as_count(extent) for extent in shape) if isinstance(shape, list) else ()
    named = as_text(stored.description.settings.get("bnb_4bit_compute_dtype"))
    return Packed(
        as_text(content.get("quant_type")) or kind,
        weight,
        extents or (None, None),
        precision_named(named or "float32"),
    )
