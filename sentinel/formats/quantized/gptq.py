"""GPTQ: codes packed along the input axis of a transposed weight, in words of 32 bits or fewer.

`qweight` is [in·bits/32, out], `g_idx` [in], `scales` [groups, out], `qzeros`
[groups, out·bits/32]; the marlin form is `B` [in/16, out·2] with `s` [groups, out], and QQQ's the
same with `s_channel` [1, out]. Sources: gptqmodel/nn_modules/qlinear of
https://github.com/ModelCloud/GPTQModel, https://github.com/IST-DASLab/marlin,
https://github.com/HandH1998/QQQ.
"""

from __future__ import annotations

from sentinel.dtypes import DTYPES
from sentinel.formats.quantized.stored import Packed, Stored

PARTS = frozenset({"qweight", "qzeros", "scales", "g_idx", "B", "s", "s_channel", "s_group"})

_TILE = 16
_WORDS = frozenset({"I8", "I16", "I32", "I64"})
_KNOWN_BITS = frozenset({2, 3, 4, 5, 6, 7, 8})


def unpack(stored: Stored) -> Packed | None:
    """Return the weight; the order of `g_idx` tells the inputs where it is there."""
    # Kernels take both half precisions; float16 is what the libraries suggest.
    compute = stored.description.dtype or "fp16"
    tiles, marlin_scales = stored.shape("B"), stored.shape("s")
    channels = stored.shape("s_channel")
    if tiles and (marlin_scales or channels):
        kind = "gptq" if marlin_scales else "qqq"
        outputs = (marlin_scales or channels or tiles)[1]
        shape = (outputs, tiles[0] * _TILE)
        return Packed(f"{kind}-int{stored.description.bits}", stored.parts["B"], shape, compute)
    words, scales = stored.shape("qweight"), stored.shape("scales")
    if words is None or stored.dtype("qweight") not in _WORDS:
        return None
    if scales is None or scales[1] != words[1]:
        return None
    codes = stored.parts["qweight"]
    bits = _bits(stored, words[1])
    order = stored.shape("g_idx", axes=1)
    # Codes of three, five, six or seven bits cross the words.
    inputs = order[0] if order else words[0] * DTYPES[codes.dtype].bits // bits
    return Packed(f"gptq-int{bits}", codes, (words[1], inputs), compute)


def _bits(stored: Stored, outputs: int) -> int:
    """Return the bits of this module's codes: some have others than the model (`dynamic`)."""
    zeros = stored.shape("qzeros")
    if zeros is not None and outputs and stored.dtype("qzeros") in _WORDS:
        found = zeros[1] * DTYPES[stored.dtype("qzeros")].bits / outputs
        if found in _KNOWN_BITS:
            return int(found)
    return stored.description.bits
