"""The screen against the whole kernel: the same NaN, Inf and zeros, and nothing else claimed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dtypes import DTYPES, unit_bytes
from sentinel.stats import compiled
from sentinel.stats.moments import LARGE_BYTES, Moments, moments_of
from sentinel.stats.screen import screen_of

FLOATS = ["F64", "F32", "BF16", "F16"]
LEVELS = {"NumPy": 0, "AVX2": 1, "fastest": 2}


@pytest.fixture(params=LEVELS, autouse=True, scope="module")
def way(request):
    """NumPy's way, and every kind of loop this processor has."""
    if request.param != "NumPy" and not compiled.is_available():
        pytest.skip("no compiled kernel here")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            patch.setattr(compiled, "_loaded", lambda: None)
            yield
            return
        compiled._loaded().sentinel_level(LEVELS[request.param])
        yield
        compiled._loaded().sentinel_level(LEVELS["fastest"])


def counts(found: Moments) -> tuple[object, ...]:
    return found.numel, found.nan_count, found.inf_count, found.zero_count


def assert_alike(dtype: str, data: np.ndarray) -> None:
    assert counts(screen_of(dtype, data)) == counts(moments_of(dtype, data))


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@given(data=st.binary(max_size=3000), large=st.booleans())
@settings(max_examples=20, deadline=None)
def test_any_bits_of_any_dtype(dtype: str, data: bytes, large: bool) -> None:  # noqa: FBT001
    whole = np.frombuffer(data[: len(data) // unit_bytes(dtype) * unit_bytes(dtype)], np.uint8)
    if large and whole.size:
        whole = np.tile(whole, -(-LARGE_BYTES // whole.size))

    assert_alike(dtype, whole)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_16_bit_pattern(dtype: str) -> None:
    assert_alike(dtype, np.arange(65536, dtype="<u2").view(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [8192, 65535, 65536, 65537, 200_011])
def test_odd_values_anywhere_at_any_alignment(dtype: str, count: int) -> None:
    """At each end of a run of values, and inside it; the bytes may begin anywhere."""
    width = DTYPES[dtype].bits // 8
    word = np.dtype(f"<u{width}")
    for odd in (0, 1 << (width * 8 - 1), (1 << (width * 8 - 1)) - 1):  # zero, -0.0, a NaN
        values = np.full(count, 0x3C00 << (width * 8 - 16), word)
        values[[0, 31, 32, count // 2, count - 2, count - 1]] = odd
        room = np.empty(count * width + 1, np.uint8)
        room[1:] = values.view(np.uint8)
        assert_alike(dtype, room[1:])
        assert_alike(dtype, values.view(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS)
def test_all_zeros_and_all_infinite(dtype: str) -> None:
    """No counter is too narrow for values that are all alike."""
    width = DTYPES[dtype].bits // 8
    infinite = {"F64": 0x7FF0 << 48, "F32": 0x7F80 << 16, "BF16": 0x7F80, "F16": 0x7C00}[dtype]
    for pattern in (0, infinite):
        data = np.full(2_100_000, pattern, f"<u{width}").view(np.uint8)
        found = screen_of(dtype, data)
        assert (found.zero_count, found.inf_count) == (
            (found.numel, 0) if pattern == 0 else (0, found.numel)
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_was_not_looked_for_is_unknown(dtype: str) -> None:
    """Whatever takes arithmetic is NULL, never a number that looks measured."""
    found = screen_of(dtype, np.ones(LARGE_BYTES, np.uint8))

    assert (found.min, found.max, found.abs_max, found.mean, found.l2) == (None,) * 5
    assert (found.subnormal_count, found.below_fp16) == (None, None)
