"""AWQ: `qweight` packed along the outputs (GEMM), the inputs (GEMV) or in tiles (fast, marlin).

The shapes of codes and scales tell the form, whatever the description calls it: GPTQModel writes
the GEMM form also under `quant_method: gptq`. Sources: awq/modules/linear of
https://github.com/casper-hansen/AutoAWQ, gptqmodel/nn_modules/qlinear of
https://github.com/ModelCloud/GPTQModel.
"""

from __future__ import annotations

from sentinel.formats.quantized.stored import PRECISIONS, Packed, Shape, Stored, codes_per_word

PARTS = frozenset({"qweight", "qzeros", "scales", "scaled_zeros"})

_TILE = 16
_INTERLEAVED_ROWS = 4


def unpack(stored: Stored) -> Packed | None:
    """Return the weight, which has no `g_idx` beside it."""
    words, scales = stored.shape("qweight"), stored.shape("scales")
    dtype = stored.dtype("qweight")
    if words is None or scales is None or "g_idx" in stored.parts or dtype not in {"I32", "I16"}:
        return None
    declared = stored.description.method
    if declared == "gptq" and words[1] == scales[1]:
        return None
    if declared != "awq" and words[1] == scales[1] and words[0] != scales[0]:
        return None
    per_word = codes_per_word(dtype, stored.description.bits)
    shape = _shape(words, scales, per_word, stored)
    if declared != "awq" and None in shape:
        return None
    return Packed(
        f"awq-int{stored.description.bits}",
        stored.parts["qweight"],
        shape,
        # AutoAWQ's scales are always float16; GPTQModel keeps the model's own dtype in them.
        PRECISIONS.get(stored.dtype("scales"), "fp16"),
    )


def _shape(words: tuple[int, ...], scales: tuple[int, ...], per_word: int, stored: Stored) -> Shape:
    version = stored.description.text("version")
    if stored.dtype("qweight") == "I16" or "scaled_zeros" in stored.parts:
        return words[0] * _INTERLEAVED_ROWS, words[1] * per_word // _INTERLEAVED_ROWS
    outputs = scales[1]
    if words[1] * per_word == outputs:
        return outputs, words[0]
    if version == "gemv" or (version != "marlin" and scales[0] == words[0]):
        return words[0], words[1] * per_word
    if words[1] * per_word == outputs * _TILE:
        return outputs, words[0] * _TILE
    return None, None
