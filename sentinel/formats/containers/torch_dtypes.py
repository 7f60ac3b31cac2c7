"""The names torch gives to dtypes and storages, as safetensors dtypes.

Source: torch/storage.py (`_dtype_to_storage_type_map`) of https://github.com/pytorch/pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sentinel.dtypes import DTYPES

COMPLEX128 = "C128"
COMPLEX32 = "C32"
_OTHER_BITS = {COMPLEX128: 128, COMPLEX32: 32, "F4": 8}

DTYPE_OF_STORAGE: Mapping[str, str | None] = MappingProxyType(
    {
        "UntypedStorage": None,
        "FloatStorage": "F32",
        "DoubleStorage": "F64",
        "HalfStorage": "F16",
        "BFloat16Storage": "BF16",
        "LongStorage": "I64",
        "IntStorage": "I32",
        "ShortStorage": "I16",
        "CharStorage": "I8",
        "ByteStorage": "U8",
        "BoolStorage": "BOOL",
        "ComplexFloatStorage": "C64",
        "ComplexDoubleStorage": COMPLEX128,
        "QInt8Storage": "I8",
        "QUInt8Storage": "U8",
        "QInt32Storage": "I32",
        "QUInt4x2Storage": "U8",
        "QUInt2x4Storage": "U8",
    }
)
"""By the storage's class; None holds bytes, whose dtype the tensor tells."""

DTYPE_OF_NAME: Mapping[str, str] = MappingProxyType(
    {
        "torch.float32": "F32",
        "torch.float64": "F64",
        "torch.float16": "F16",
        "torch.bfloat16": "BF16",
        "torch.int64": "I64",
        "torch.int32": "I32",
        "torch.int16": "I16",
        "torch.int8": "I8",
        "torch.uint8": "U8",
        "torch.uint16": "U16",
        "torch.uint32": "U32",
        "torch.uint64": "U64",
        "torch.bool": "BOOL",
        "torch.complex64": "C64",
        "torch.complex128": COMPLEX128,
        "torch.complex32": COMPLEX32,
        "torch.float8_e4m3fn": "F8_E4M3",
        "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
        "torch.float8_e5m2": "F8_E5M2",
        "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
        "torch.float8_e8m0fnu": "F8_E8M0",
        "torch.float4_e2m1fn_x2": "F4",
    }
)
"""By the dtype's own name."""


def bits_of(dtype: str) -> int:
    """Return the bits of one of torch's elements; a pair of F4 values is one of them."""
    return _OTHER_BITS[dtype] if dtype in _OTHER_BITS else DTYPES[dtype].bits
