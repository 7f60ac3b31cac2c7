"""AWQ: `qweight` packed along the outputs (GEMM), the inputs (GEMV) or in tiles (fast, marlin).

Source: awq/modules/linear of https://github.com/casper-hansen/AutoAWQ.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import Packed, Shape, Stored, codes_per_word

PARTS = frozenset({"qweight", "qzeros", "scales", "scaled_zeros"})

_TILE = 16
_INTERLEAVED_ROWS = 4


def unpack(stored: Stored) -> Packed | None:
    """Return the weight, which has no `g_idx` beside it."""
    words, scales = stored.shape("qweight"), stored.shape("scales")
    if words is None or scales is None or "g_idx" in stored.parts:
        return None
    declared = stored.description.method
    if declared == "gptq" or (declared != "awq" and words[1] == scales[1]):
        return None
    codes = stored.parts["qweight"]
    per_word = codes_per_word(codes.dtype, stored.description.bits)
    shape = _shape(words, scales, per_word, stored)
    # The quantizer casts a bfloat16 model to float16: no kernel takes another dtype.
    return Packed(f"awq-int{stored.description.bits}", codes, shape, "fp16")


def _shape(words: tuple[int, ...], scales: tuple[int, ...], per_word: int, stored: Stored) -> Shape:
    version = stored.description.text("version")
    if version == "gemv_fast" or "scaled_zeros" in stored.parts:
        return words[0] * _INTERLEAVED_ROWS, words[1] * per_word // _INTERLEAVED_ROWS
    outputs = scales[1]
    if words[1] * per_word == outputs:
        return outputs, words[0]
    if version == "gemv" or (version != "marlin" and scales[0] == words[0]):
        return words[0], words[1] * per_word
    if words[1] * per_word == outputs * _TILE:
        return outputs, words[0] * _TILE
    return None, None
