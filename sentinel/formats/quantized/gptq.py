"""GPTQ: codes packed along the input axis of a transposed weight, in 32-bit words.

`qweight` is [in·bits/32, out], `g_idx` [in], `scales` [groups, out]; the marlin form is `B`
[in/16, out·2] with `s` [groups, out]. Sources: gptqmodel/nn_modules/qlinear of
https://github.com/ModelCloud/GPTQModel, https://github.com/IST-DASLab/marlin.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Stored, codes_per_word

PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx", "B", "s"})

_TILE = 16


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; the order of `g_idx` tells the inputs where it is there."""
    scheme = f"gptq-int{stored.description.bits}"
    # Kernels take both half precisions; float16 is what the libraries suggest.
    compute = stored.description.dtype or "fp16"
    tiles, marlin_scales = stored.shape("B"), stored.shape("s")
    if tiles and marlin_scales:
        shape = (marlin_scales[1], tiles[0] * _TILE)
        return Packed(scheme, stored.parts["B"], shape, compute)
    words = stored.shape("qweight")
    if words is None:
        return None
    codes = stored.parts["qweight"]
    order = stored.shape("g_idx", axes=1)
    bits = stored.description.bits
    # Three-bit codes cross the words: 32 of them lie in three.
    per_word = 32 / bits if codes.dtype == "I32" else codes_per_word(codes.dtype, bits)
    inputs = order[0] if order else int(words[0] * per_word)
    return Packed(scheme, codes, (words[1], inputs), compute)
