"""The 8-bit float formats, and the 4-bit one, as tables of their values.

Sources: the OCP 8-bit Floating Point Specification (E4M3, E5M2), the OCP Microscaling
Specification (E8M0, E2M1), and https://arxiv.org/abs/2206.02915 (the FNUZ kinds: no negative
zero, no infinity, NaN at 0x80 alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Float8:
    """For each code its value (0.0 where not finite) and what kind it is."""

    values: NDArray[np.float64]
    nan: NDArray[np.bool_]
    inf: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    subnormal: NDArray[np.bool_]

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Tell for each code whether it stands for a number."""
        return ~(self.nan | self.inf)


def _signed(
    mantissa_bits: int,
    bias: int,
    nan_codes: tuple[int, ...],
    inf_codes: tuple[int, ...] = (),
    *,
    bits: int = _BITS,
) -> Float8:
    codes = np.arange(1 << bits)
    sign = 1 << (bits - 1)
    magnitude = codes & (sign - 1)
    exponent = magnitude >> mantissa_bits
    fraction = (magnitude & ((1 << mantissa_bits) - 1)) / float(1 << mantissa_bits)
    normal = exponent > 0
    values = np.where(
        normal,
        (1.0 + fraction) * 2.0 ** (exponent.astype(np.float64) - bias),
        fraction * 2.0 ** (1 - bias),
    )
    values = np.where(codes & sign, -values, values)
    nan, inf = np.isin(codes, nan_codes), np.isin(codes, inf_codes)
    zero = (magnitude == 0) & ~nan
    return Float8(
        values=np.where(nan | inf, 0.0, values),
        nan=nan,
        inf=inf,
        zero=zero,
        subnormal=~normal & ~zero & ~nan,
    )


def _powers_of_two() -> Float8:
    codes = np.arange(256)
    nan = codes == 0xFF  # noqa: PLR2004 - the format's one NaN code
    none = np.zeros(256, np.bool_)
    values = np.where(nan, 0.0, 2.0 ** (codes.astype(np.float64) - 127))
    return Float8(values=values, nan=nan, inf=none, zero=none, subnormal=none)


FLOAT8: Mapping[str, Float8] = MappingProxyType(
    {
        "F8_E4M3": _signed(3, 7, (0x7F, 0xFF)),
        "F8_E5M2": _signed(2, 15, (0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF), (0x7C, 0xFC)),
        "F8_E4M3FNUZ": _signed(3, 8, (0x80,)),
        "F8_E5M2FNUZ": _signed(2, 16, (0x80,)),
        "F8_E8M0": _powers_of_two(),
    }
)
"""By safetensors name."""

FLOAT4 = _signed(1, 1, (), bits=4)
"""E2M1, the F4 of safetensors: its 16 codes are all finite."""
