"""From a tensor's bytes to float64 values, for the float formats the kernel can tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sentinel.stats.float8 import FLOAT8
from sentinel.stats.floats import FLOATS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_decodable(dtype: str) -> bool:
    """Tell whether `as_float64` knows the dtype."""
    return dtype in FLOATS or dtype in FLOAT8


def as_float64(dtype: str, data: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the values of raw little-endian bytes; NaN and Inf codes give no meaningful value."""
    if dtype in FLOAT8:
        return FLOAT8[dtype].values[data]
    form = FLOATS[dtype]
    bits = data.view(form.bits)
    return form.decode(bits, np.empty(bits.size, np.float32)).astype(np.float64)
