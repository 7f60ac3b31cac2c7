"""A cast is torch's own, bit for bit; what it loses is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.receipt import Loss
from sentinel.repairs.files.casting import CASTABLE, cast, is_exact, lost

torch = pytest.importorskip("torch")

TORCH = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
WIDTH = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2}
PAIRS = [(before, after) for before in sorted(CASTABLE) for after in sorted(CASTABLE)]


def as_torch(raw: bytes, before: str, after: str) -> bytes:
    """What `Tensor.to` makes of the same bytes."""
    held = torch.frombuffer(bytearray(raw), dtype=TORCH[before]).to(TORCH[after])
    return held.view(torch.uint8).numpy().tobytes()


def nan_mask(raw: bytes, dtype: str) -> np.ndarray:
    return torch.frombuffer(bytearray(raw), dtype=TORCH[dtype]).isnan().numpy()


def assert_as_torch(raw: bytes, before: str, after: str) -> None:
    ours = cast(np.frombuffer(raw, np.uint8), before, after).tobytes()
    theirs = as_torch(raw, before, after)

    is_nan = nan_mask(theirs, after)
    assert (nan_mask(ours, after) == is_nan).all()
    bits = f"<u{WIDTH[after]}"
    got, wanted = np.frombuffer(ours, bits), np.frombuffer(theirs, bits)
    assert (got[~is_nan] == wanted[~is_nan]).all()


def corners(dtype: str) -> bytes:
    """Zeros, subnormals, largest values, infinities and NaN of every kind, and their neighbours.

    So are, in the wider formats, the places where a narrower one rounds, overflows and vanishes.
    """
    width = WIDTH[dtype]
    ties = [2.0**-25, 2.0**-24, 2.0**-14, 65504.0, 65519.99, 65520.0, 2.0**-134, 2.0**-133]
    ties += [2.0**-126, 3.3895e38, 3.4e38, 3.4028235e38, 2.0**-150, 2.0**-149, 1 + 2.0**-8]
    ties += [1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-24 + 2.0**-40]
    values = np.array([sign * tie for tie in ties for sign in (1, -1)])
    with np.errstate(all="ignore"):
        near = torch.tensor(values).to(TORCH[dtype]).view(torch.uint8).numpy().view(f"<u{width}")
    steps = np.arange(-3, 4).astype(f"<i{width}").view(f"<u{width}")
    top = 1 << (8 * width - 1)
    edges = np.array([0, 1, top - 1, top, top + 1, 2 * top - 1], dtype="u8").astype(f"<u{width}")
    infinity = torch.tensor([np.inf, -np.inf, np.nan]).to(TORCH[dtype]).view(torch.uint8).numpy()
    known = np.concatenate([near, edges, infinity.view(f"<u{width}")])
    return (known[:, None] + steps[None, :]).astype(f"<u{width}").tobytes()


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_corners_are_cast_as_torch_casts_them(before, after):
    """Ties, subnormals, overflow, infinities; every NaN stays a NaN."""
    assert_as_torch(corners(before), before, after)


@pytest.mark.parametrize(("before", "after"), [one for one in PAIRS if WIDTH[one[0]] == 2])
def test_every_value_of_sixteen_bits(before, after):
    """All 65,536 patterns."""
    assert_as_torch(np.arange(1 << 16, dtype="<u2").tobytes(), before, after)


@given(st.sampled_from(PAIRS), st.binary(min_size=8, max_size=512))
def test_any_bytes_are_cast_as_torch_casts_them(pair, raw):
    """Whatever the bits are."""
    assert_as_torch(raw[: len(raw) // 8 * 8], *pair)


@given(st.sampled_from(PAIRS), st.binary(min_size=8, max_size=512))
def test_losses_are_what_torch_says(pair, raw):
    """Finite values that became infinite, and values that became zero; an exact cast has none."""
    before, after = pair
    block = np.frombuffer(raw[: len(raw) // 8 * 8], np.uint8)
    found = lost(block, cast(block, before, after), before, after)

    given_ = torch.frombuffer(bytearray(block.tobytes()), dtype=TORCH[before])
    made = given_.to(TORCH[after])
    expected = Loss(
        value_count=given_.numel(),
        overflow_count=int((made.isinf() & given_.isfinite()).sum()),
        underflow_count=int(((made == 0) & (given_ != 0)).sum()),
    )
    assert found == expected
    if is_exact(before, after):
        assert not found
