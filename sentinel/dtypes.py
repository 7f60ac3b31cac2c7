"""The tensor dtypes of checkpoint files, under the names safetensors uses in its headers.

Source of names and widths: the `Dtype` enum of https://github.com/huggingface/safetensors
(safetensors/src/tensor.rs). Widths are in bits, since F4 and F6 values share bytes. What only
other containers hold stands in tables of its own: a safetensors header may not name it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

_BYTE_BITS = 8

Kind = Literal["float", "int", "bool", "complex"]


class DType(NamedTuple):
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

COMPLEX: Mapping[str, str] = MappingProxyType({"C32": "F16", "C64": "F32", "C128": "F64"})
"""Complex dtypes, also those of torch and NumPy, and the dtype of their two parts."""

ScaleFormat = Literal["F16", "F32", "F8_E8M0", "F8_E4M3", "F16_SPREAD"]
"""How a scale is stored: a dtype, or an F16 in the highest four bits of four 16-bit words."""

_WORD_BYTES: Mapping[str, int] = MappingProxyType({"F16": 2, "F32": 4, "F16_SPREAD": 2})


@dataclass(frozen=True, slots=True)
class Scale:
    """One scale of a block, or several one behind the other, each for its share of the values."""

    offset: int
    format: ScaleFormat = "F16"
    count: int = 1

    @property
    def word_bytes(self) -> int:
        """Return the bytes that turn round together in a big-endian file."""
        return _WORD_BYTES.get(self.format, 1)

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all of it."""
        return 4 * self.word_bytes if self.format == "F16_SPREAD" else self.count * self.word_bytes


class BlockType(NamedTuple):
    """A dtype whose values come in blocks: codes with scales between them."""

    name: str
    elements: int
    size_bytes: int
    scales: tuple[Scale, ...]


def _block(name: str, elements: int, size_bytes: int, *offsets: int) -> BlockType:
    return BlockType(name, elements, size_bytes, tuple(Scale(offset) for offset in offsets))


_BLOCKS = (
    _block("Q1_0", 128, 18, 0),
    _block("Q2_0", 64, 18, 0),
    _block("Q4_0", 32, 18, 0),
    _block("Q4_1", 32, 20, 0, 2),
    _block("Q5_0", 32, 22, 0),
    _block("Q5_1", 32, 24, 0, 2),
    _block("Q8_0", 32, 34, 0),
    BlockType("Q8_1", 32, 40, (Scale(0, "F32"), Scale(4, "F32"))),
    _block("Q2_K", 256, 84, 80, 82),
    _block("Q3_K", 256, 110, 108),
    _block("Q4_K", 256, 144, 0, 2),
    _block("Q5_K", 256, 176, 0, 2),
    _block("Q6_K", 256, 210, 208),
    BlockType("Q8_K", 256, 292, (Scale(0, "F32"),)),
    _block("IQ1_S", 256, 50, 0),
    BlockType("IQ1_M", 256, 56, (Scale(48, "F16_SPREAD"),)),
    _block("IQ2_XXS", 256, 66, 0),
    _block("IQ2_XS", 256, 74, 0),
    _block("IQ2_S", 256, 82, 0),
    _block("IQ3_XXS", 256, 98, 0),
    _block("IQ3_S", 256, 110, 0),
    _block("IQ4_NL", 32, 18, 0),
    _block("IQ4_XS", 256, 136, 0),
    _block("TQ1_0", 256, 54, 52),
    _block("TQ2_0", 256, 66, 64),
    BlockType("MXFP4", 32, 17, (Scale(0, "F8_E8M0"),)),
    BlockType("NVFP4", 64, 36, (Scale(0, "F8_E4M3", 4),)),
)

BLOCKS: Mapping[str, BlockType] = MappingProxyType({block.name: block for block in _BLOCKS})
"""The block types of GGUF by ggml's names.

Source: gguf/constants.py (`GGML_QUANT_SIZES`) and the structures `block_*` in
src/ggml-common.h of https://github.com/ggml-org/ggml. Q8_1 is as the first has it; it is an
intermediate of multiplications and no file is known to hold one.
"""


def unit_bytes(name: str) -> int:
    """Return the bytes of the shortest run of whole values: of a block type those of a block."""
    if name in BLOCKS:
        return BLOCKS[name].size_bytes
    if name in COMPLEX:
        return 2 * DTYPES[COMPLEX[name]].bits // _BYTE_BITS
    return math.lcm(DTYPES[name].bits, _BYTE_BITS) // _BYTE_BITS if name in DTYPES else 1


def is_float(name: str) -> bool:
    """Tell whether a dtype name stands for real floating-point values."""
    dtype = DTYPES.get(name)
    return dtype is not None and dtype.kind == "float"
