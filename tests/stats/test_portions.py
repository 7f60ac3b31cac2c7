"""Portions of the weights, measured apart in any order, are the numbers of the whole."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sentinel.formats.opening import open_checkpoint
from sentinel.stats.measure import measure
from sentinel.stats.portions import joined, measure_portion, portions_of


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Matrices of several sizes and dtypes, with a NaN, an Inf and zeros."""
    draw = np.random.default_rng(2)
    tensors = {
        f"model.layers.{n}.q_proj.lora_{side}.weight": draw.normal(0, 1, shape).astype(dtype)
        for n, dtype in enumerate(("f4", "f2", "f8"))
        for side, shape in (("A", (8, 1000 + n)), ("B", (300, 8)))
    }
    large = tensors["model.layers.0.q_proj.lora_A.weight"]
    large[0, 0], large[7, 999], large[3] = np.nan, np.inf, 0.0
    tensors["model.empty.weight"] = np.zeros((0, 4), "f4")
    path = tmp_path_factory.mktemp("portions") / "lora.safetensors"
    save_file(tensors, path)
    return open_checkpoint(path)


@pytest.mark.parametrize("depth", ["whole", "quick"])
@given(most_bytes=st.integers(64, 40_000), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_any_division_gives_the_same_numbers(checkpoint, depth, most_bytes, seed) -> None:
    """However small the portions are and in whatever order they come, also twice."""
    whole = measure(checkpoint, digest=True, depth=depth).tensors.to_pylist()
    portions = list(portions_of(checkpoint.tensors, depth, most_bytes))
    random.Random(seed).shuffle(portions)

    known = joined(measure_portion(checkpoint, one, digest=True, depth=depth) for one in portions)
    again = measure(checkpoint, digest=True, depth=depth, remembered=known).tensors.to_pylist()

    assert known.numbers.keys() == {tensor.name for tensor in checkpoint.tensors}
    for row, expected in zip(again, whole, strict=True):
        for name, value in expected.items():
            if name in {"mean", "l2"} and value is not None:
                assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-14)
            else:
                assert row[name] == value, name


@pytest.mark.parametrize("most_bytes", [100, 5_000, 1 << 30])
def test_each_byte_is_in_one_portion(checkpoint, most_bytes) -> None:
    """Counted over all portions, what is measured is the weights' size."""
    portions = list(portions_of(checkpoint.tensors, "whole", most_bytes))
    counted = [one for one in portions if one.kind != "trace"]

    assert sum(
        one.size_bytes or sum(tensor.size_bytes for tensor in one.tensors) for one in counted
    ) == sum(tensor.size_bytes for tensor in checkpoint.tensors)
    for name, blocks in itertools.groupby(
        (one for one in counted if one.kind == "block"), lambda one: one.tensors[0].name
    ):
        ends = 0
        for block in blocks:
            assert block.start == ends, name
            ends += block.size_bytes
