"""The compiled kernel: the loops of `native/moments.c`, where the installed wheel has them.

Loaded at the first large block; without the library, or on a processor without AVX2, callers get
None and NumPy does the work. Calls let go of the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SWITCH = "SENTINEL_KERNEL"
"""Environment variable: ``numpy`` leaves the library alone, ``avx2`` also AVX-512."""

_LIBRARY = Path(__file__).parent / "native" / "moments.so"
_LEVELS = {"numpy": 0, "avx2": 1}
_FASTEST = 2

# In the order of the enums of moments.c, by safetensors name and by NumPy's kind.
FLOATS = {"F64": 0, "F32": 1, "BF16": 2, "F16": 3}
_INTEGERS = {"i1": 0, "u1": 1, "i2": 2, "u2": 3, "i4": 4, "u4": 5, "i8": 6, "u8": 7}
MOST_VECTORS = 256
"""`gram` and `tally_batch` compute Gram matrices up to this size."""

_WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}


class Tally(NamedTuple):
    """What one pass over floats finds; ``min`` to ``squares`` of the finite ones."""

    nan: int
    inf: int
    zero: int
    subnormal: int
    below_fp16: int
    finite: int
    min: float
    max: float
    sum: float
    squares: float


class _Tally(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in Tally._fields[:6]),
        *((name, ctypes.c_double) for name in Tally._fields[6:]),
    ]


class Run(NamedTuple):
    """A run of floats at ``offset`` in some bytes; ``rank`` 0 is one without a Gram matrix."""

    dtype: str
    offset: int
    size_bytes: int
    rank: int = 0
    by_rows: bool = False


_BEGUN = (0, 0, 0, 0, 0, 0, np.inf, -np.inf, 0.0, 0.0)
_PIECE = np.dtype(
    [
        *((name, "i8") for name in ("offset", "count", "format", "by_rows", "rank", "gram")),
        *((name, "i8") for name in Tally._fields[:6]),
        *((name, "f8") for name in Tally._fields[6:]),
    ]
)


def is_available() -> bool:
    """Tell whether there is a compiled kernel for this processor."""
    return _loaded() is not None


def tally_floats(dtype: str, data: NDArray[np.uint8]) -> Tally | None:
    """Return what one pass over raw little-endian floats finds; None without a library.

    Counts, min and max are exact. The sums run in float64, in at least eight lanes over 4096
    values at a time: relative to the sum of magnitudes they are within 1e-12.
    """
    library = _loaded()
    if library is None or not data.flags.c_contiguous:
        return None
    found = _Tally(min=np.inf, max=-np.inf)
    count = data.size // _WIDTHS[dtype]
    library.sentinel_floats(FLOATS[dtype], data.ctypes.data, count, ctypes.byref(found))
    return Tally(*(getattr(found, name) for name in Tally._fields))


def tally_batch(
    data: NDArray[np.uint8], runs: Sequence[Run]
) -> list[tuple[Tally, NDArray[np.float64] | None]] | None:
    """Return what `tally_floats` and `gram` find of each run in ``data``; None without a library.

    Raises ValueError for a run that does not lie in ``data``, or of another dtype or rank than
    those two know.
    """
    library = _loaded()
    if library is None or not data.flags.c_contiguous:
        return None
    pieces, room = [], 0
    for run in runs:
        count = run.size_bytes // _WIDTHS[run.dtype]
        lies_inside = 0 <= run.offset <= run.offset + run.size_bytes <= data.size
        if not lies_inside or not 0 <= run.rank <= MOST_VECTORS:
            message = f"{run} cannot be read from {data.size} bytes"
            raise ValueError(message)
        place = (run.offset, count, FLOATS[run.dtype], run.by_rows, run.rank, room)
        pieces.append((*place, *_BEGUN))
        room += run.rank * run.rank
    found, grams = np.array(pieces, _PIECE), np.zeros(room)
    library.sentinel_batch(data.ctypes.data, found.ctypes.data, len(found), grams.ctypes.data)
    return [
        (Tally(*row[6:]), _square(grams, at=row[5], rank=row[4]) if row[4] else None)
        for row in found.tolist()
    ]


def _square(grams: NDArray[np.float64], *, at: int, rank: int) -> NDArray[np.float64]:
    return grams[at : at + rank * rank].reshape(rank, rank)


def screen_floats(dtype: str, data: NDArray[np.uint8]) -> tuple[int, int, int] | None:
    """Return how many raw little-endian floats are NaN, Inf and zero; None without a library."""
    library = _loaded()
    if library is None or not data.flags.c_contiguous:
        return None
    found = (ctypes.c_int64 * 3)()
    library.sentinel_screen(FLOATS[dtype], data.ctypes.data, data.size // _WIDTHS[dtype], found)
    nan, inf, zero = found
    return nan, inf, zero


def tally_integers(values: NDArray[np.integer]) -> tuple[int, int, int] | None:
    """Return how many are zero, the least and the largest; None without a library."""
    library = _loaded()
    kind = _INTEGERS.get(values.dtype.str[1:])
    if library is None or kind is None or not values.size or not values.flags.c_contiguous:
        return None
    first = int(values[0].astype(np.int64))
    zero, low, high = ctypes.c_int64(0), ctypes.c_int64(first), ctypes.c_int64(first)
    places = (ctypes.byref(one) for one in (zero, low, high))
    library.sentinel_integers(kind, values.ctypes.data, values.size, *places)
    ends = np.array([low.value, high.value]).astype(values.dtype)
    return zero.value, int(ends[0]), int(ends[1])


def histogram(data: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Return how often each of the 256 bytes occurs; None without a library."""
    library = _loaded()
    if library is None or not data.flags.c_contiguous:
        return None
    found = np.zeros(256, np.int64)
    library.sentinel_histogram(data.ctypes.data, data.size, found.ctypes.data)
    return found


def gram(
    dtype: str, data: NDArray[np.uint8], rank: int, *, by_rows: bool
) -> NDArray[np.float64] | None:
    """Return the Gram matrix [r, r] of raw little-endian floats, as `gram.gram_of` does.

    None without a library, for another dtype, and for a rank above 256.
    """
    library = _loaded()
    if library is None or dtype not in FLOATS or not rank or not data.flags.c_contiguous:
        return None
    found = np.zeros((rank, rank))
    length = data.size // _WIDTHS[dtype] // rank
    places = (data.ctypes.data, rank, length, found.ctypes.data)
    return found if library.sentinel_gram(FLOATS[dtype], by_rows, *places) else None


@cache
def _loaded() -> ctypes.CDLL | None:
    most = _LEVELS.get(os.environ.get(SWITCH, ""), _FASTEST)
    if not most or not _LIBRARY.exists():
        return None
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError:  # built for another system
        return None
    if not library.sentinel_level(most):
        return None
    address, size = ctypes.c_void_p, ctypes.c_int64
    library.sentinel_floats.argtypes = (ctypes.c_int, address, size, address)
    library.sentinel_screen.argtypes = (ctypes.c_int, address, size, address)
    library.sentinel_integers.argtypes = (ctypes.c_int, address, size, *[address] * 3)
    library.sentinel_histogram.argtypes = (address, size, address)
    library.sentinel_gram.argtypes = (ctypes.c_int, ctypes.c_int, address, size, size, address)
    library.sentinel_batch.argtypes = (address, address, size, address)
    for function in ("floats", "screen", "integers", "histogram", "batch"):
        getattr(library, f"sentinel_{function}").restype = None
    return library
