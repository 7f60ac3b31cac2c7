"""The float formats whose bits are compared directly: F64, F32, BF16 and F16."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Decode = Callable[[NDArray[np.unsignedinteger], NDArray[np.float32]], NDArray[np.floating]]
"""From finite bit patterns to numbers; the second argument is room for the result."""


FP16_VANISHING = 2.0**-25
"""The largest magnitude that fp16 rounds to zero: half its smallest step, and ties go to even."""


class FloatFormat(NamedTuple):
    """One format: its bit patterns without the sign, as scalars of the type ``bits``.

    ``vanishing`` is the largest that fp16 rounds to zero, ``small`` the largest that is
    subnormal or vanishes.
    """

    bits: np.dtype[np.unsignedinteger]
    magnitude_mask: np.unsignedinteger
    smallest_normal: np.unsignedinteger
    infinity: np.unsignedinteger
    vanishing: np.unsignedinteger
    small: np.unsignedinteger
    decode: Decode


def _decode_f64(
    bits: NDArray[np.unsignedinteger], _room: NDArray[np.float32]
) -> NDArray[np.floating]:
    return bits.view("<f8")


def _decode_f32(
    bits: NDArray[np.unsignedinteger], _room: NDArray[np.float32]
) -> NDArray[np.floating]:
    return bits.view("<f4")


def _decode_bf16(
    bits: NDArray[np.unsignedinteger], room: NDArray[np.float32]
) -> NDArray[np.floating]:
    # A BF16 is the upper half of the F32 with the same value.
    values = room[: bits.size]
    patterns = values.view(np.uint32)
    np.copyto(patterns, bits)
    np.left_shift(patterns, 16, out=patterns)
    return values


def _decode_f16(
    bits: NDArray[np.unsignedinteger], room: NDArray[np.float32]
) -> NDArray[np.floating]:
    # The ten mantissa and five exponent bits move to their F32 places; multiplying by the
    # difference of the two exponent biases (127 - 15) then gives the exact value, subnormals
    # included. Five times as fast as NumPy's own cast. Sign extension carries the sign along.
    values = room[: bits.size]
    patterns = values.view(np.int32)
    np.copyto(patterns, bits.view("<i2"))
    np.left_shift(patterns, 13, out=patterns)
    np.bitwise_and(patterns, np.int32(-0x70002000), out=patterns)
    np.multiply(values, np.float32(2.0**112), out=values)
    return values


def _format(width: int, mantissa_bits: int, exponent_bits: int, decode: Decode) -> FloatFormat:
    bits: np.dtype[np.unsignedinteger] = np.dtype(f"<u{width}")
    scalar = bits.type
    bias = (1 << (exponent_bits - 1)) - 1
    # An exponent below 1 is none of a normal number: fp16 itself holds nothing so small.
    vanishing = max(0, bias + round(math.log2(FP16_VANISHING))) << mantissa_bits
    return FloatFormat(
        bits=bits,
        magnitude_mask=scalar((1 << (width * 8 - 1)) - 1),
        smallest_normal=scalar(1 << mantissa_bits),
        infinity=scalar(((1 << exponent_bits) - 1) << mantissa_bits),
        vanishing=scalar(vanishing),
        small=scalar(max(vanishing, (1 << mantissa_bits) - 1)),
        decode=decode,
    )


FLOATS: Mapping[str, FloatFormat] = MappingProxyType(
    {
        "F64": _format(8, 52, 11, _decode_f64),
        "F32": _format(4, 23, 8, _decode_f32),
        "BF16": _format(2, 7, 8, _decode_bf16),
        "F16": _format(2, 10, 5, _decode_f16),
    }
)
"""By safetensors name."""
