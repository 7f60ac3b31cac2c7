"""Gram matrices of thin matrices: the compiled way against NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.stats import compiled
from sentinel.stats.gram import frobenius_norm, gram_of
from sentinel.stats.values import as_float64

compiled_only = pytest.mark.skipif(not compiled.is_available(), reason="no compiled kernel here")


@pytest.fixture(params=[2, 1], ids=["fastest", "AVX2"])
def level(request):
    """Which loops run: what the processor has, and those of older ones."""
    compiled._loaded().sentinel_level(request.param)
    yield
    compiled._loaded().sentinel_level(2)


def stored(dtype: str, values: np.ndarray) -> np.ndarray:
    """The raw bytes of values in a dtype."""
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").view(np.uint8).reshape(-1)
    kind = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]
    return values.astype(kind).view(np.uint8).reshape(-1)


def expected(dtype: str, data: np.ndarray, rank: int, *, by_rows: bool) -> np.ndarray:
    values = as_float64(dtype, data)
    wide = values.reshape(-1, rank).T if by_rows else values.reshape(rank, -1)
    return wide @ wide.T


@compiled_only
@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("by_rows", [True, False], ids=["tall", "wide"])
@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_any_shape(dtype: str, *, by_rows: bool) -> None:
    """Every product within 1e-13 of the lengths of its two vectors, whatever the shape."""

    @given(
        rank=st.one_of(st.integers(1, 40), st.sampled_from([64, 127, 128, 255, 256])),
        length=st.integers(0, 700),
        seed=st.integers(0, 2**32 - 1),
        size=st.sampled_from([1e-30, 1e-6, 1.0, 3e4]),
    )
    @settings(max_examples=60, deadline=None)
    def holds(rank: int, length: int, seed: int, size: float) -> None:
        values = np.random.default_rng(seed).standard_normal((rank, length)) * size
        data = stored(dtype, np.clip(values, -6e4, 6e4))
        wanted = expected(dtype, data, rank, by_rows=by_rows)

        found = compiled.gram(dtype, data, rank, by_rows=by_rows)

        assert found is not None
        lengths = np.sqrt(np.diag(wanted))
        assert (np.abs(found - wanted) <= 1e-13 * np.outer(lengths, lengths)).all()
        assert (found == found.T).all()

    holds()


@compiled_only
@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("by_rows", [True, False], ids=["tall", "wide"])
def test_bytes_at_any_place(*, by_rows: bool) -> None:
    """A tensor may begin at an odd byte of its block."""
    data = stored("BF16", np.random.default_rng(0).standard_normal((6, 301)))
    moved = np.concatenate([np.zeros(1, np.uint8), data])[1:]

    found = compiled.gram("BF16", moved, 6, by_rows=by_rows)

    assert (found == compiled.gram("BF16", data, 6, by_rows=by_rows)).all()


@compiled_only
@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("by_rows", [True, False], ids=["tall", "wide"])
def test_what_is_not_finite_spoils_its_own_vector_alone(*, by_rows: bool) -> None:
    """Loads of whole lanes reach into what comes next: that must not be seen."""
    values = np.random.default_rng(0).standard_normal((5, 40))
    values[3, 7] = np.nan
    data = stored("F32", values.T.copy() if by_rows else values)
    others = np.array([0, 1, 2, 4])

    found = compiled.gram("F32", data, 5, by_rows=by_rows)

    assert np.isnan(found[3]).all()
    assert np.isfinite(found[np.ix_(others, others)]).all()


@compiled_only
def test_fp16_has_no_false_infinity() -> None:
    """Squares of 60,000, and of the smallest subnormal, are beyond what fp16 can hold."""
    for value in (6e4, 2.0**-24):
        data = stored("F16", np.full((4, 5000), value))

        found = gram_of("F16", data, 4, by_rows=False)

        assert found == pytest.approx(5000 * float(np.float16(value)) ** 2)


@compiled_only
def test_more_vectors_than_there_is_room_for() -> None:
    """Above rank 256 NumPy does the work, with the same result."""
    data = stored("F32", np.random.default_rng(0).standard_normal((257, 40)))

    assert compiled.gram("F32", data, 257, by_rows=False) is None
    wanted = expected("F32", data, 257, by_rows=False)
    assert gram_of("F32", data, 257, by_rows=False) == pytest.approx(wanted)


def test_a_norm_that_overflows_is_unknown() -> None:
    """Infinity times zero is no number, and no norm of zero either."""
    large, none = np.full((2, 2), np.inf), np.zeros((2, 2))

    assert frobenius_norm(large, none) is None
    assert frobenius_norm(none, none) == 0.0
