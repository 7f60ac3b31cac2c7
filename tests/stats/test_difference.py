"""Two tensors element by element: equal to NumPy's answer, whatever the blocks and the dtypes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sentinel.dtypes import DTYPES
from sentinel.errors import ChangedWhileReadError
from sentinel.formats.opening import open_checkpoint
from sentinel.stats import difference as module
from sentinel.stats.comparison import Comparison, compare

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I32": "<i4", "U8": "<u1", "I64": "<i8"}


def write(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Path:
    """Write a safetensors file of any dtype."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def compared(directory: Path, dtypes: tuple[str, str], *raw: bytes) -> Comparison:
    first, second = (
        write(directory / name, {"w": (dtype, (len(data) * 8 // DTYPES[dtype].bits,), data)})
        for name, dtype, data in zip(("a.safetensors", "b.safetensors"), dtypes, raw, strict=True)
    )
    return compare(open_checkpoint(first), open_checkpoint(second))


@st.composite
def two_versions(draw: st.DrawFn) -> tuple[tuple[str, str], np.ndarray, np.ndarray]:
    first, second = draw(st.sampled_from(list(KINDS))), draw(st.sampled_from(list(KINDS)))
    count = draw(st.integers(1, 40))
    values = (draw(arrays.arrays(KINDS[kind], count)) for kind in (first, second))
    before, after = values
    if first == second:
        kept = draw(arrays.arrays(np.bool_, count))
        after = np.where(kept, before, after)
    return (first, second), before, after


@settings(deadline=None, max_examples=150)
@given(two_versions())
def test_numbers_are_numpys(tmp_path_factory, versions):
    """Identical elements, norms and the largest change are what NumPy says in float64."""
    (first, second), before, after = versions
    with pytest.MonkeyPatch.context() as patch:
        # Several blocks, the last one short.
        patch.setattr(module, "BLOCK_ELEMENTS", 8)
        directory = tmp_path_factory.mktemp("two")
        comparison = compared(directory, (first, second), before.tobytes(), after.tobytes())
    (pair,) = comparison.tensors
    found = pair.difference

    a, b = before.astype("f8"), after.astype("f8")
    finite = np.isfinite(a) & np.isfinite(b)
    bits = f"<u{before.itemsize}"
    same = before.view(bits) == after.view(bits) if first == second else a == b
    if first != second:
        same |= np.isnan(a) & np.isnan(b)
    with np.errstate(over="ignore"):
        change = b[finite] - a[finite]
        expected = [
            np.sqrt(np.dot(change, change)),
            np.sqrt(np.dot(a[finite], a[finite])),
            np.abs(change).max(initial=0.0),
        ]
    assert found.identical_count == np.count_nonzero(same)
    assert found.non_finite_count == np.count_nonzero(~finite)
    for mine, theirs in zip(
        (found.change_l2, found.first_l2, found.largest), expected, strict=True
    ):
        assert mine == pytest.approx(theirs, rel=1e-12) if np.isfinite(theirs) else mine is None


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_can_be_compared_with_itself(tmp_path, dtype):
    """One changed element is one, also where elements share bytes."""
    raw = bytearray(np.random.default_rng(1).integers(0, 60, 192, np.uint8).tobytes())
    before = bytes(raw)
    raw[-1] ^= 0x80
    comparison = compared(tmp_path, (dtype, dtype), before, bytes(raw))
    (pair,) = comparison.tensors

    assert pair.difference.numel - pair.difference.identical_count == 1
    assert comparison.is_different
    same = compared(tmp_path, (dtype, dtype), before, before)
    assert same.tensors[0].is_identical
    assert not same.is_different


def widened(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """All codes of a dtype, and their values in F32 by another way than the kernel's own."""
    if dtype == "F8_E5M2":
        codes = np.arange(2**8, dtype="<u1")
        # E5M2 is the upper half of an F16.
        return codes, (codes.astype("<u2") << 8).view("<f2").astype("<f4")
    codes = np.arange(2**16, dtype="<u2")
    if dtype == "F16":
        return codes, codes.view("<f2").astype("<f4")
    return codes, (codes.astype("<u4") << 16).view("<f4")


@pytest.mark.parametrize("dtype", ["BF16", "F8_E5M2", "F16"])
def test_all_codes_survive_a_change_of_dtype(tmp_path, dtype):
    """A dtype that F32 holds exactly is by value the same in F32, NaN and infinities included."""
    codes, wide = widened(dtype)
    comparison = compared(tmp_path, (dtype, "F32"), codes.tobytes(), wide.tobytes())
    (pair,) = comparison.tensors

    assert pair.difference.is_identical
    assert pair.difference.change_l2 == 0
    assert not pair.is_identical, "another dtype is a difference"
    assert comparison.is_different


def test_a_change_below_the_step_of_the_dtype_is_told(tmp_path):
    """An update that BF16 could not have held is named so; one above it is not."""
    before = np.full(64, 1.0, "f4")
    faint, clear = (before * np.float32(1 + by) for by in (1e-3, 0.1))
    raw = (before.astype("f4").view("<u4") >> 16).astype("<u2").tobytes()

    for after, told in ((faint, True), (clear, False)):
        comparison = compared(tmp_path, ("BF16", "F32"), raw, after.tobytes())
        assert [one.is_below_epsilon for one in comparison.modules] == [told]


def test_an_alpha_does_not_hide_the_change_of_its_weights(saved, tmp_path):
    """The relative change of a module is that of its matrices."""
    tensors = {
        "lora_unet_q.lora_down.weight": np.full((4, 32), 0.1, "f4"),
        "lora_unet_q.lora_up.weight": np.full((16, 4), 0.1, "f4"),
        "lora_unet_q.alpha": np.array(4000, "f4"),
    }
    first = saved(tensors)
    kept = first.path.rename(tmp_path / "before.safetensors")
    second = saved(tensors | {name: tensors[name] * np.float32(2) for name in list(tensors)[:2]})
    comparison = compare(open_checkpoint(kept), second)

    assert [one.relative for one in comparison.modules] == [pytest.approx(1.0)]


def test_another_shape_is_a_difference_without_numbers(tmp_path):
    """Tensors of different shapes are different, and their elements not compared."""
    comparison = compared(tmp_path, ("F32", "F32"), bytes(16), bytes(32))

    assert comparison.tensors[0].difference is None
    assert comparison.is_different
    assert not comparison.unknown


def test_values_nobody_knows_are_neither_equal_nor_different(tmp_path):
    """F4 against F32 cannot be compared, and is not called equal."""
    comparison = compared(tmp_path, ("F4", "F32"), bytes(4), bytes(32))

    assert comparison.unknown == comparison.tensors
    assert not comparison.tensors[0].is_identical


def test_a_file_that_changes_is_refused(tmp_path):
    """Numbers of two versions are nobody's."""
    path = write(tmp_path / "a.safetensors", {"w": ("F32", (4,), bytes(16))})
    opened = open_checkpoint(path)
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(ChangedWhileReadError, match="changed while they were read"):
        compare(opened, opened)
