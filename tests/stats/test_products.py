"""Sizes of many products: taken while the matrices are read, or by reading them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint
from sentinel.stats import products
from sentinel.stats.measure import measure
from sentinel.stats.stable_rank import stable_rank, stable_ranks

Save = Callable[[dict[str, np.ndarray]], Checkpoint]


def adapter(ranks: list[int], width: int = 600) -> dict[str, np.ndarray]:
    random = np.random.default_rng(len(ranks))
    tensors = {}
    for number, rank in enumerate(ranks):
        up, down = random.standard_normal((2, width, rank)).astype("f4")
        tensors[f"m{number}.lora_up.weight"] = up
        tensors[f"m{number}.lora_down.weight"] = down.T.copy()
    return tensors


def sizes(checkpoint: Checkpoint, jobs: int = 1) -> list[tuple[float, float]]:
    found = measure(checkpoint, digest=False, jobs=jobs).pairs.to_pylist()
    return [(row["norm"], row["stable_rank"]) for row in found]


@pytest.mark.parametrize("kept_bytes", [0, 2000, 2**24], ids=["none", "some", "all"])
def test_reading_again_finds_the_same(
    saved: Save, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """However many Gram matrices there is room for, in the order of the pairs, ranks mixed."""
    ranks = [8, 8, 4, 8, 16, 16, 1]
    tensors = adapter(ranks)
    checkpoint = saved(tensors)
    monkeypatch.setattr(products, "KEPT_BYTES", kept_bytes)

    found = sizes(checkpoint)

    assert len(found) == len(ranks)
    for number, (norm, stable) in enumerate(found):
        up = tensors[f"m{number}.lora_up.weight"].astype("f8")
        product = up @ tensors[f"m{number}.lora_down.weight"].astype("f8")
        largest = np.linalg.norm(product, ord=2)
        assert norm == pytest.approx(np.linalg.norm(product), rel=1e-12)
        assert stable == pytest.approx((norm / largest) ** 2, rel=0.05)


def test_threads_find_the_same(saved: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(adapter([8] * 12))
    monkeypatch.setattr("sentinel.stats.measure.SHARED_BYTES", 0)

    assert sizes(checkpoint, jobs=4) == sizes(checkpoint)


def test_of_two_tensors_of_one_name_the_first_makes_the_pair(saved: Save) -> None:
    """A name may come back in another shard, with another shape."""
    checkpoint = saved(adapter([4]))
    up, down = sorted(checkpoint.tensors, key=lambda one: one.role != "lora_up")
    twin = replace(up, shape=(up.shape[0] // 2, up.shape[1] * 2))

    [row] = sizes(replace(checkpoint, tensors=(up, down, twin)))

    assert row == sizes(checkpoint)[0]


@given(
    seed=st.integers(0, 2**32 - 1), rank=st.sampled_from([1, 4, 16, 40]), count=st.integers(1, 6)
)
@settings(max_examples=40, deadline=None)
def test_a_stable_rank_does_not_depend_on_the_others(seed: int, rank: int, count: int) -> None:
    """Also where one of them has none."""
    random = np.random.default_rng(seed)
    grams = []
    for _ in range(count):
        left, right = random.standard_normal((2, rank, 50)) * 10.0 ** random.uniform(-3, 3)
        grams.append((left @ left.T, right @ right.T))
    grams.append((np.zeros((rank, rank)), np.eye(rank)))
    grams.append((np.full((rank, rank), np.inf), np.eye(rank)))

    assert stable_ranks(grams) == [stable_rank(*one) for one in grams]
    assert stable_ranks(grams)[-2:] == [None, None]
