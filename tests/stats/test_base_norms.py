"""Sizes of base weights: exact, read once, and only when they fit the budget."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.checkpoint import Base
from sentinel.formats.base import read_base
from sentinel.stats.base_norms import BaseNorms

RNG = np.random.default_rng(1)
Q = RNG.standard_normal((40, 24)).astype("f4")
Q[[3, 17]] = 0.0
Q[3, 0] = -0.0


def base_of(path: Path, **tensors: np.ndarray) -> Base:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text("{}")
    save_file(
        {f"{name}.weight": value for name, value in tensors.items()}, path / "model.safetensors"
    )
    return read_base(path)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_norm_and_zero_rows_are_numpys(tmp_path: Path, dtype: str) -> None:
    values = Q.astype(dtype)
    base = base_of(tmp_path, q=values, untouched=np.ones((2, 2), "f4"))

    found = BaseNorms().measure(base, {"q"})

    assert found.keys() == {"q"}
    assert found["q"].norm == pytest.approx(np.linalg.norm(values.astype("f8")), rel=1e-12)
    assert found["q"].zero_rows == 2


def test_the_smallest_number_is_not_zero(tmp_path: Path) -> None:
    """A row of one subnormal has a norm."""
    values = np.zeros((2, 3), "f4")
    values[0, 1] = 1e-45

    assert BaseNorms().measure(base_of(tmp_path, q=values), {"q"})["q"].zero_rows == 1


def test_a_weight_with_nan_has_no_norm(tmp_path: Path) -> None:
    values = np.full((2, 2), np.nan, "f4")

    assert BaseNorms().measure(base_of(tmp_path, q=values), {"q"})["q"].norm is None


def test_over_the_budget_nothing_is_read(tmp_path: Path) -> None:
    """All or nothing: the largest change among some modules would be a matter of chance."""
    base = base_of(tmp_path, q=Q, k=Q)
    (tmp_path / "model.safetensors").unlink()

    assert BaseNorms(budget_bytes=2 * Q.nbytes - 1).measure(base, {"q", "k"}) == {}
    assert BaseNorms(budget_bytes=2 * Q.nbytes - 1).measure(base, {"q"}) == {}


def test_packed_and_one_dimensional_weights_are_not_read(tmp_path: Path) -> None:
    base = base_of(tmp_path, packed=np.ones((8, 8), "i1"), norm=np.ones(8, "f4"))

    assert BaseNorms().measure(base, {"packed", "norm"}) == {}


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """The same file answers without being opened; another one of the same name is read anew."""
    base = base_of(tmp_path, q=Q)
    norms = BaseNorms()
    first = norms.measure(base, {"q"})
    status = (tmp_path / "model.safetensors").stat()

    (tmp_path / "model.safetensors").write_bytes(b"x" * status.st_size)
    os.utime(tmp_path / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert norms.measure(base, {"q"}) == first

    again = base_of(tmp_path, q=2 * Q)
    doubled = norms.measure(again, {"q"})["q"].norm
    assert doubled == pytest.approx(2 * (first["q"].norm or 0.0))


def test_a_base_that_is_gone_has_no_norms(tmp_path: Path) -> None:
    base = base_of(tmp_path, q=Q)
    (tmp_path / "model.safetensors").unlink()

    assert BaseNorms().measure(base, {"q"}) == {}
    (tmp_path / "model.safetensors").write_bytes(b"short")
    assert BaseNorms().measure(base, {"q"}) == {}
