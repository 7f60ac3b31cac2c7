"""How many elements an update moved, told from a sample: exact where all are kept, close else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.checkpoint import Tensor
from sentinel.stats.samples import SAMPLED_ELEMENTS, Sampler, with_same_share, without_samples

WIDTHS = {"F32": 4, "BF16": 2, "F8_E4M3": 1, "F64": 8}


def sampled(dtype: str, data: np.ndarray, block_bytes: int) -> bytes | None:
    width = WIDTHS[dtype]
    sampler = Sampler(Tensor("t", "m", dtype, (data.size // width,), 0, data.size))
    for start in range(0, data.size, block_bytes):
        sampler.take(data[start : start + block_bytes])
    return sampler.bytes()


@given(st.sampled_from(sorted(WIDTHS)), st.integers(1, 5000), st.integers(1, 900), st.randoms())
def test_a_sample_does_not_depend_on_the_blocks(dtype, numel, block_elements, random) -> None:
    """The same evenly spaced elements are taken however the bytes come; all of a small tensor."""
    width = WIDTHS[dtype]
    data = np.frombuffer(random.randbytes(numel * width), np.uint8)

    whole = sampled(dtype, data, data.size)

    assert sampled(dtype, data, block_elements * width) == whole
    stride = max(1, numel // SAMPLED_ELEMENTS)
    wanted = data.reshape(-1, width)[::stride][:SAMPLED_ELEMENTS]
    assert whole == wanted.tobytes()


def table(**rows: tuple[str, bytes | None]) -> pa.Table:
    return pa.table(
        {
            "part": ["weights"] * len(rows),
            "tensor": list(rows),
            "dtype": [dtype for dtype, _ in rows.values()],
            "sample": pa.array([sample for _, sample in rows.values()], pa.binary()),
        }
    )


def test_the_share_counts_whole_elements() -> None:
    """An element of which one byte differs has moved; other dtypes and new tensors are NULL."""
    now = table(a=("BF16", b"aabbccdd"), b=("F32", b"aabb"), c=("F32", b"aabb"), d=("F4", None))
    was = table(a=("BF16", b"aabbcxdd"), b=("F32", b"aabb"), c=("BF16", b"aabb"))

    assert with_same_share(now, was)["same_share"].to_pylist() == [0.75, 1.0, None, None]
    assert with_same_share(now, None)["same_share"].to_pylist() == [None] * 4


def test_further_back_no_samples_are_kept() -> None:
    """What lies deeper in the past has no samples: they would be most of its memory."""
    assert "sample" not in without_samples(table(a=("F32", b"aabb"))).column_names


@pytest.mark.parametrize("share", [0.2, 0.93])
def test_a_large_tensor_within_its_error(share) -> None:
    """The sampled share of a million elements is near the true one (fixed seed)."""
    rng = np.random.default_rng(7)
    before = rng.integers(0, 2**16, 1_000_000).astype("<u2")
    after = np.where(rng.random(before.size) < share, before, before ^ 1)
    samples = [
        sampled("BF16", one.astype("<u2").view(np.uint8), 196_608) for one in (after, before)
    ]

    (found,) = with_same_share(*(table(a=("BF16", one)) for one in samples))[
        "same_share"
    ].to_pylist()
    assert abs(found - share) < 0.05
