"""The compiled kernel against NumPy's, for every kind of loop this processor has."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dtypes import DTYPES
from sentinel.stats import compiled
from sentinel.stats.moments import LARGE_BYTES, Moments, moments_of

FLOATS = ["F64", "F32", "BF16", "F16"]
OTHERS = ["F8_E4M3", "F8_E5M2", "F8_E8M0", "BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"]  # fmt: skip  # noqa: E501

pytestmark = pytest.mark.skipif(not compiled.is_available(), reason="no compiled kernel here")


@pytest.fixture(params=[2, 1], ids=["fastest", "AVX2"], scope="module", autouse=True)
def _level(request):
    """Which loops run: what the processor has, and those of older ones."""
    compiled._loaded().sentinel_level(request.param)
    yield
    compiled._loaded().sentinel_level(2)


def numpys(dtype: str, data: np.ndarray) -> Moments:
    """What NumPy's way finds, a block at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sentinel.stats.moments.LARGE_BYTES", math.inf)
        return moments_of(dtype, data)


def assert_alike(dtype: str, data: np.ndarray) -> None:
    data = np.tile(data, -(-LARGE_BYTES // max(1, data.size)))
    found, wanted = moments_of(dtype, data), numpys(dtype, data)

    for name in Moments._fields:
        if name not in {"mean", "l2"}:
            assert getattr(found, name) == getattr(wanted, name), name
    top = wanted.abs_max or 1.0
    for mine, theirs in ((found.mean, wanted.mean), (found.l2, wanted.l2)):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            assert math.isclose(mine, theirs, rel_tol=1e-12, abs_tol=1e-12 * top)


@pytest.mark.parametrize("dtype", [*FLOATS, *OTHERS])
@given(data=st.binary(min_size=8, max_size=3000))
@settings(max_examples=25, deadline=None)
def test_any_bits(dtype: str, data: bytes) -> None:
    """Counts and extremes are the same, sums within 1e-12 of the largest magnitude."""
    width = DTYPES[dtype].bits // 8
    assert_alike(dtype, np.frombuffer(data[: len(data) // width * width], np.uint8))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_16_bit_pattern(dtype: str) -> None:
    assert_alike(dtype, np.arange(65536, dtype="<u2").view(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [4095, 4096, 4097, 8192, 20011])
def test_a_single_odd_value_anywhere(dtype: str, count: int) -> None:
    """Wherever it stands in a chunk: a NaN, an Inf, a zero, the smallest, the largest."""
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<f4"}[dtype]
    generator = np.random.default_rng(count)
    plain = generator.uniform(0.5, 1.5, count).astype(kind) * generator.choice([-1, 1], count)
    for odd in (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-7, 3e4, -3e4):
        for place in (0, 15, 16, count // 2, count - 2, count - 1):
            values = plain.astype(kind)
            values[place] = odd
            bits = values.view(f"<u{values.dtype.itemsize}")
            data = (bits >> 16).astype("<u2") if dtype == "BF16" else bits
            assert_alike(dtype, data.view(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
def test_bytes_at_any_place(dtype: str) -> None:
    """A tensor may begin at any byte of a buffer."""
    width = DTYPES[dtype].bits // 8
    raw = np.random.default_rng(3).integers(0, 256, LARGE_BYTES * 3 + 8, dtype=np.uint8)
    whole = moments_of(dtype, raw[1:][: LARGE_BYTES * 3].copy())

    assert moments_of(dtype, raw[1:][: LARGE_BYTES * 3]) == whole
    assert whole.numel == LARGE_BYTES * 3 // width


def test_fp16_has_no_false_infinity() -> None:
    """2^20 values of 300 have a norm beyond fp16, which is no Inf."""
    values = np.full(2**20, 300, "<f2")

    assert moments_of("F16", values.view(np.uint8)).l2 == 300 * 1024


@pytest.mark.parametrize("size", [1e300, 1e-200])
def test_squares_beyond_float64(size: float) -> None:
    values = np.full(LARGE_BYTES, size, "<f8")

    assert math.isclose(moments_of("F64", values.view(np.uint8)).l2, size * math.sqrt(LARGE_BYTES))


@pytest.mark.parametrize(("switch", "wanted"), [("numpy", "False"), ("avx2", "True")])
def test_the_switch(switch: str, wanted: str) -> None:
    """Whoever suspects the library reads with NumPy, by an environment variable."""
    program = "from sentinel.stats import compiled; print(compiled.is_available())"
    environment = {**os.environ, compiled.SWITCH: switch}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == wanted
