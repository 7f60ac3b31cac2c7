"""The stable rank from two small Gram matrices against a singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.stats.stable_rank import stable_rank


def of_product(left: np.ndarray, right: np.ndarray) -> float:
    values = np.linalg.svd(left @ right, compute_uv=False)
    return float((values**2).sum() / values[0] ** 2)


@given(
    seed=st.integers(0, 2**32 - 1),
    rank=st.integers(1, 40),
    decay=st.floats(0.0, 3.0),
    size=st.sampled_from([1e-60, 1e-6, 1.0, 1e60]),
)
@settings(max_examples=80, deadline=None)
def test_it_is_that_of_the_product(seed: int, rank: int, decay: float, size: float) -> None:
    """Never below the true one, and no more than a few percent above."""
    random = np.random.default_rng(seed)
    weights = np.exp(-decay * np.arange(rank))
    left = random.standard_normal((50, rank)) * weights * size
    right = random.standard_normal((rank, 70))

    found = stable_rank(left.T @ left, right @ right.T)

    expected = of_product(left, right)
    assert found is not None
    assert expected * (1 - 1e-6) <= found <= max(expected * 1.05, expected + 1e-6)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_one_direction_is_one_and_orthogonal_ones_are_the_rank(rank: int) -> None:
    ones, unit = np.ones((rank, rank)), np.eye(rank)

    assert stable_rank(ones, unit) == pytest.approx(1.0)
    assert stable_rank(unit, unit) == pytest.approx(rank)


def test_no_product_has_no_rank() -> None:
    """A lora_up of zeros, and values that overflow, are not called collapsed."""
    unit = np.eye(4)

    assert stable_rank(np.zeros((4, 4)), unit) is None
    assert stable_rank(np.full((4, 4), np.inf), unit) is None
    assert stable_rank(np.diag([1.0, 0, 0, 0]), np.diag([0.0, 1, 0, 0])) is None
