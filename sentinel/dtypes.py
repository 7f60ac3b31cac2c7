"""The tensor dtypes of checkpoint files, under the names safetensors uses in its headers.

Source of names and widths: the `Dtype` enum of https://github.com/huggingface/safetensors
(safetensors/src/tensor.rs). Widths are in bits, since F4 and F6 values share bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["float", "int", "bool", "complex"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type. ``epsilon`` is the gap after 1.0, ``largest`` the largest finite value."""

    name: str
    bits: int
    kind: Kind
    epsilon: float | None = None
    largest: float | None = None


_ALL = (
    DType("BOOL", 8, "bool"),
    DType("F4", 4, "float", 0.5, 6.0),
    DType("F6_E2M3", 6, "float", 0.125, 7.5),
    DType("F6_E3M2", 6, "float", 0.25, 28.0),
    DType("U8", 8, "int"),
    DType("I8", 8, "int"),
    DType("F8_E5M2", 8, "float", 0.25, 57344.0),
    DType("F8_E4M3", 8, "float", 0.125, 448.0),
    DType("F8_E8M0", 8, "float", 1.0, 2.0**127),
    DType("F8_E4M3FNUZ", 8, "float", 0.125, 240.0),
    DType("F8_E5M2FNUZ", 8, "float", 0.25, 57344.0),
    DType("I16", 16, "int"),
    DType("U16", 16, "int"),
    DType("F16", 16, "float", 2.0**-10, 65504.0),
    DType("BF16", 16, "float", 2.0**-7, 3.3895313892515355e38),
    DType("I32", 32, "int"),
    DType("U32", 32, "int"),
    DType("F32", 32, "float", 2.0**-23, 3.4028234663852886e38),
    DType("C64", 64, "complex"),
    DType("F64", 64, "float", 2.0**-52, 1.7976931348623157e308),
    DType("I64", 64, "int"),
    DType("U64", 64, "int"),
)

DTYPES: Mapping[str, DType] = MappingProxyType({dtype.name: dtype for dtype in _ALL})
"""Every dtype a safetensors header may name."""


def is_float(name: str) -> bool:
    """Tell whether a dtype name stands for real floating-point values."""
    dtype = DTYPES.get(name)
    return dtype is not None and dtype.kind == "float"
