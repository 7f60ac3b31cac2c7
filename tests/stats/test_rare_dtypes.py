"""Complex numbers against numpy, four-bit floats against their specification and torchao."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.flow import inspect
from sentinel.formats.opening import open_checkpoint
from sentinel.stats.measure import measure
from sentinel.stats.moments import Moments, Scratch, moments_of

PARTS = {"C32": "<f2", "C64": "<f4", "C128": "<f8"}
F4_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.0]
part = st.sampled_from(ODD)


@pytest.mark.parametrize("dtype", PARTS)
@given(values=st.lists(st.tuples(part, part), max_size=60))
@settings(max_examples=60, deadline=None)
def test_a_complex_number_is_what_its_parts_make_it(
    dtype: str, values: list[tuple[float, float]]
) -> None:
    """NaN with a NaN in either part, else Inf with an Inf in either, zero with two zeros."""
    pairs = np.array(values, PARTS[dtype]).reshape(-1, 2)
    numbers = pairs.astype("f8").view("c16")[:, 0]

    found = moments_of(dtype, np.frombuffer(pairs.tobytes(), np.uint8), Scratch(64))

    assert found.numel == numbers.size
    assert found.nan_count == np.isnan(numbers).sum()
    assert found.inf_count == (np.isinf(numbers) & ~np.isnan(numbers)).sum()
    assert found.zero_count == (numbers == 0).sum()
    assert (found.min, found.mean, found.l2) == (None, None, None)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["c8", "c16"])
def test_complex_arrays_of_numpy_in_either_byte_order(
    tmp_path: Path, order: str, kind: str
) -> None:
    values = np.array([1 + 2j, np.nan, complex(0, np.inf), 0, 5e-40, 1j], f"{order}{kind}")
    np.save(tmp_path / "w.npy", values)

    measured = measure(open_checkpoint(tmp_path / "w.npy"), digest=True)

    (row,) = measured.tensors.to_pylist()
    assert (row["nan_count"], row["inf_count"], row["zero_count"]) == (1, 1, 1)
    np.save(tmp_path / "w.npy", values.astype(f"<{kind}"))
    (same,) = measure(open_checkpoint(tmp_path / "w.npy"), digest=True).tensors.to_pylist()
    assert row["digest"] == same["digest"]


@pytest.mark.trainer
def test_wide_complex_tensors_of_torch(tmp_path: Path) -> None:
    """128 bits, which safetensors cannot hold and a pickle can."""
    torch = pytest.importorskip("torch")
    values = torch.tensor([complex(1, 2), complex(float("nan"), 0), 0], dtype=torch.complex128)
    torch.save({"w": values}, tmp_path / "w.pt")

    measured = inspect(tmp_path / "w.pt").measured

    assert measured is not None
    (row,) = measured.tensors.to_pylist()
    assert (row["numel"], row["nan_count"], row["zero_count"]) == (3, 1, 1)


def test_every_f4_code_has_its_value() -> None:
    """E2M1 of the OCP Microscaling Specification: sixteen finite values, two of them zero."""
    values = np.concatenate([F4_VALUES, -F4_VALUES])
    for code in range(256):
        low, high = float(values[code & 15]), float(values[code >> 4])

        found = moments_of("F4", np.array([code], np.uint8))

        assert (found.numel, found.nan_count, found.inf_count) == (2, 0, 0)
        assert found.zero_count == (low == 0) + (high == 0)
        assert found.subnormal_count == (abs(low) == 0.5) + (abs(high) == 0.5)
        assert (found.min, found.max) == (min(low, high), max(low, high))
        assert found.mean == (low + high) / 2
        assert found.l2 == pytest.approx(np.hypot(low, high))


@pytest.mark.trainer
def test_f4_values_are_those_of_torchao() -> None:
    torch = pytest.importorskip("torch")
    kernels = pytest.importorskip("torchao.prototype.mx_formats.kernels")
    theirs = kernels.f4_unpacked_to_f32(torch.arange(16, dtype=torch.uint8)).numpy()

    for code in range(16):
        assert moments_of("F4", np.array([code * 17], np.uint8)).max == theirs[code]


@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_f4_bytes_have_counts(data: bytes) -> None:
    raw = np.frombuffer(data, np.uint8)
    codes = np.concatenate([raw & 7, (raw >> 4) & 7])

    found = moments_of("F4", raw, Scratch(64))

    assert (found.numel, found.nan_count, found.inf_count) == (codes.size, 0, 0)
    assert found.zero_count == (codes == 0).sum()


@pytest.mark.parametrize("dtype", ["F6_E2M3", "F6_E3M2"])
def test_f6_has_no_nan_and_zeros_that_are_known_when_all_is_zero(dtype: str) -> None:
    """Its 64 codes are all finite; no library packs it, so that nobody says in which order."""
    assert moments_of(dtype, np.zeros(24, np.uint8)) == Moments(32, 0, 0, 32, None)
    assert moments_of(dtype, np.arange(24, dtype=np.uint8)) == Moments(32, 0, 0, None, None)
    assert moments_of(dtype, np.eye(24, dtype=np.uint8)[23], Scratch(8)).zero_count is None
