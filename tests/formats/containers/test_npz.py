"""NumPy's own files: arrays where numpy put them, nothing unpickled."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError, TruncatedError
from sentinel.formats.containers.npz import read_numpy_file

ARRAYS = {
    "a": np.arange(6, dtype="f4").reshape(2, 3),
    "f16": np.ones(3, "f2"),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(4, dtype=">i4"),
    "flag": np.array([True, False]),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3)),
}


def test_every_array_is_where_numpy_put_it(tmp_path: Path) -> None:
    """In order of memory, whatever the order of the axes or of the bytes."""
    path = tmp_path / "x.npz"
    np.savez(path, **ARRAYS)
    raw = path.read_bytes()

    found = {one.name: one for one in read_numpy_file(path)}

    assert list(found) == list(ARRAYS)
    for name, one in found.items():
        assert one.shape == ARRAYS[name].shape
        assert raw[one.offset :][: one.size_bytes] == ARRAYS[name].ravel("K").tobytes()
        assert one.big_endian == (name == "big")
        assert (one.strides == (1, 2)) == (name == "columns")


def test_a_single_array_has_the_name_of_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", ARRAYS["a"])
    (found,) = read_numpy_file(tmp_path / "w.npy")
    assert (found.name, found.dtype, found.shape) == ("w", "F32", (2, 3))


def test_objects_and_compressed_arrays_are_refused(tmp_path: Path) -> None:
    """An array of objects is a pickle inside; a compressed one cannot be read in place."""
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    np.savez_compressed(tmp_path / "c.npz", a=np.zeros(9))
    for name in ("o.npy", "c.npz"):
        with pytest.raises(InputError):
            read_numpy_file(tmp_path / name)


def test_every_cut_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    np.save(path, ARRAYS["a"])
    whole = path.read_bytes()
    for length in range(128, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedError):
            read_numpy_file(path)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_mutation_ends_in_arrays_or_an_input_error(tmp_path: Path, data) -> None:
    path = tmp_path / "w.npy"
    np.save(path, ARRAYS["a"])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(InputError):
        read_numpy_file(path)
