"""The kernel against numpy's float64, against torch-free tables, and its own merge law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dtypes import DTYPES
from sentinel.stats.moments import Moments, Scratch, merge, moments_of, unmeasured

NATIVE = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
INTEGERS = {"I8": "i1", "U8": "u1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U64": "<u8"}
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2}


def raw(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)


def as_float64(dtype: str, data: np.ndarray) -> np.ndarray:
    """The values as numpy itself reads them; BF16 by hand, numpy has none."""
    if dtype == "BF16":
        with np.errstate(invalid="ignore"):
            return (data.view("<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    with np.errstate(invalid="ignore"):
        return data.view(NATIVE[dtype]).astype(np.float64)


SMALLEST_NORMAL = {"F64": 2.0**-1022, "F32": 2.0**-126, "BF16": 2.0**-126, "F16": 2.0**-14}


def assert_close(found: float | None, expected: float, *, of: float = 1.0) -> None:
    assert found is not None
    assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12 * of)


def assert_as_reference(dtype: str, data: np.ndarray, found: Moments) -> None:
    values = as_float64(dtype, data)
    finite = values[np.isfinite(values)]
    assert found.numel == values.size
    assert found.nan_count == np.isnan(values).sum()
    assert found.inf_count == np.isinf(values).sum()
    assert found.zero_count == (values == 0).sum()
    small = (np.abs(finite) < SMALLEST_NORMAL[dtype]) & (finite != 0)
    assert found.subnormal_count == small.sum()
    with np.errstate(over="ignore"):
        assert found.below_fp16 == ((finite != 0) & (finite.astype(np.float16) == 0)).sum()
    if not finite.size:
        assert found == Moments(found.numel, found.nan_count, found.inf_count)
        return
    assert (found.min, found.max) == (finite.min(), finite.max())
    top = np.abs(finite).max()
    assert found.abs_max == top
    scale = top or 1.0
    assert_close(found.mean, float((finite / scale).mean() * scale), of=scale)
    assert_close(found.l2, float(np.sqrt(((finite / scale) ** 2).sum()) * scale), of=scale)


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
@given(data=st.binary(max_size=4096))
@settings(max_examples=60, deadline=None)
def test_any_bits_give_numpys_numbers(dtype: str, data: bytes) -> None:
    """Whatever the bits are, counts are exact and mean and l2 are float64's."""
    width = DTYPES[dtype].bits // 8
    array = np.frombuffer(data[: len(data) // width * width], np.uint8)

    assert_as_reference(dtype, array, moments_of(dtype, array, Scratch(256)))


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_16_bit_pattern_is_told_apart(dtype: str) -> None:
    patterns = np.arange(65536, dtype="<u2").view(np.uint8)

    assert_as_reference(dtype, patterns, moments_of(dtype, patterns))


@pytest.mark.parametrize("dtype", sorted(WIDTHS))
@given(first=st.binary(max_size=600), second=st.binary(max_size=600))
@settings(max_examples=40, deadline=None)
def test_merging_is_measuring_both_at_once(dtype: str, first: bytes, second: bytes) -> None:
    """merge(moments(x), moments(y)) == moments(x + y), up to rounding in the sums."""
    width = WIDTHS[dtype]
    x = np.frombuffer(first[: len(first) // width * width], np.uint8)
    y = np.frombuffer(second[: len(second) // width * width], np.uint8)
    scratch = Scratch(192)

    merged = merge(moments_of(dtype, x, scratch), moments_of(dtype, y, scratch))
    at_once = moments_of(dtype, np.concatenate([x, y]))

    for name in Moments._fields:
        left, right = getattr(merged, name), getattr(at_once, name)
        if name in {"mean", "l2"} and left is not None and right is not None:
            assert_close(left, right, of=at_once.abs_max or 1.0)
        else:
            assert left == right, name


def test_the_empty_moments_change_nothing() -> None:
    some = moments_of("F32", raw(np.array([1.5, -2.0, np.nan], "<f4")))

    assert merge(some, Moments()) == some
    assert merge(Moments(), some) == some
    assert moments_of("F32", np.empty(0, np.uint8)) == Moments()


def test_a_large_fp16_tensor_has_no_false_infinity() -> None:
    """Squares of 60000 leave fp16 at once and float32 after 10**29 values: l2 stays finite."""
    values = np.full(200_000, 60000.0, "<f2")

    found = moments_of("F16", raw(values))

    assert found.inf_count == 0
    assert_close(found.l2, float(values[0]) * math.sqrt(200_000))
    assert_close(found.mean, float(values[0]))


def test_doubles_near_the_end_of_their_range_neither_overflow_nor_vanish() -> None:
    for size in (1e308, 1e-300):
        found = moments_of("F64", raw(np.array([size, size, -size], "<f8")))
        assert_close(found.l2 / size, math.sqrt(3))
        assert_close(found.mean / size, 1 / 3)


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16"])
@given(exponents=st.lists(st.integers(-30, -20), max_size=40), ulps=st.integers(-1, 1))
@settings(max_examples=40, deadline=None)
def test_what_fp16_rounds_to_zero_is_counted(dtype: str, exponents: list[int], ulps: int) -> None:
    """At the border itself, one step of the format below and above it, of either sign."""
    width = DTYPES[dtype].bits
    values = (-1.0) ** np.arange(len(exponents)) * 2.0 ** np.array(exponents, float)
    if dtype == "BF16":
        patterns = (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    else:
        patterns = values.astype(NATIVE[dtype]).view(f"<u{width // 8}")
    data = raw(patterns + np.array(ulps).astype(patterns.dtype))

    assert_as_reference(dtype, data, moments_of(dtype, data))


def test_negative_zero_is_zero() -> None:
    found = moments_of("F32", raw(np.array([-0.0, 0.0, 1.0], "<f4")))

    assert (found.zero_count, found.min, found.subnormal_count) == (2, 0.0, 0)
    assert math.copysign(1, moments_of("F32", raw(np.array([-0.0], "<f4"))).abs_max) == 1


@pytest.mark.parametrize(
    ("dtype", "counts", "largest", "smallest"),
    [
        ("F8_E4M3", (2, 0, 2, 14), 448.0, 2.0**-9),
        ("F8_E5M2", (6, 2, 2, 6), 57344.0, 2.0**-16),
        ("F8_E4M3FNUZ", (1, 0, 1, 14), 240.0, 2.0**-10),
        ("F8_E5M2FNUZ", (1, 0, 1, 6), 57344.0, 2.0**-17),
        ("F8_E8M0", (1, 0, 0, 0), 2.0**127, 2.0**-127),
    ],
)
def test_8_bit_floats_follow_their_specifications(
    dtype: str, counts: tuple[int, int, int, int], largest: float, smallest: float
) -> None:
    """Over all 256 codes: NaN, Inf, zeros and subnormals, and the ends of the positive range."""
    codes = np.arange(256, dtype=np.uint8)

    found = moments_of(dtype, codes)
    positive = [moments_of(dtype, codes[at : at + 1]).max for at in range(256)]

    assert counts == (
        found.nan_count,
        found.inf_count,
        found.zero_count,
        found.subnormal_count,
    )
    assert found.max == largest
    assert min(value for value in positive if value is not None and value > 0) == smallest
    assert largest == DTYPES[dtype].largest


@pytest.mark.trainer
@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("F8_E4M3", "float8_e4m3fn"),
        ("F8_E5M2", "float8_e5m2"),
        ("F8_E4M3FNUZ", "float8_e4m3fnuz"),
        ("F8_E5M2FNUZ", "float8_e5m2fnuz"),
        ("F8_E8M0", "float8_e8m0fnu"),
    ],
)
def test_8_bit_values_are_those_of_torch(dtype: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    codes = np.arange(256, dtype=np.uint8)
    theirs = torch.from_numpy(codes).view(getattr(torch, name)).to(torch.float64).numpy()

    for code in range(256):
        found = moments_of(dtype, codes[code : code + 1])
        assert found.max == (theirs[code] if np.isfinite(theirs[code]) else None)
        assert found.nan_count == int(np.isnan(theirs[code]))
        assert found.inf_count == int(np.isinf(theirs[code]))
        assert found.zero_count == int(theirs[code] == 0)


@pytest.mark.parametrize(("dtype", "native"), sorted(INTEGERS.items()))
def test_integers_have_counts_and_bounds_but_no_sums(dtype: str, native: str) -> None:
    values = np.array([0, 3, 0, 100], native)

    found = moments_of(dtype, raw(values))

    assert found == Moments(4, 0, 0, 2, 0, 0.0, 100.0, 100.0)


def test_what_cannot_be_told_apart_is_unknown_and_never_zero() -> None:
    assert moments_of("X9", np.zeros(24, np.uint8)) == unmeasured(24)


def test_the_sums_survive_many_blocks() -> None:
    """Three million values through 192 KiB blocks: as float64 at once."""
    values = (np.random.default_rng(7).standard_normal(3_000_000) * 0.02).astype("<f4")

    assert_as_reference("F32", raw(values), moments_of("F32", raw(values)))
