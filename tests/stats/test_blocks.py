"""Block scales of GGUF against gguf's own dequantisation: what is not finite, and where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.dtypes import BLOCKS, Scale
from sentinel.stats.moments import Moments, Scratch, moments_of

gguf = pytest.importorskip("gguf")

PATTERNS = {
    "F16": {"nan": 0x7E01, "inf": 0xFC00, "zero": 0x8000, "one": 0x3C00},
    "F32": {"nan": 0xFFC00000, "inf": 0x7F800000, "zero": 0, "one": 0x3F800000},
    "F8_E8M0": {"nan": 0xFF, "one": 0x7F},
    "F8_E4M3": {"nan": 0x7F, "zero": 0, "one": 0x38},
}
PATTERNS["F16_SPREAD"] = PATTERNS["F16"]
HALVES = sorted(name for name, one in BLOCKS.items() if one.scales[0].word_bytes == 2)


def set_scale(block: np.ndarray, scale: Scale, pattern: int, share: int = 0) -> None:
    """Write a bit pattern where ggml's structures have the scale."""
    if scale.format == "F16_SPREAD":
        words = block[scale.offset : scale.offset + 8].view("<u2")
        words[:] = (words & 0x0FFF) | [(pattern >> shift & 15) << 12 for shift in (0, 4, 8, 12)]
        return
    width = scale.word_bytes
    begin = scale.offset + share * width
    block[begin : begin + width] = np.frombuffer(pattern.to_bytes(width, "little"), np.uint8)


def random_blocks(name: str, count: int, seed: int) -> np.ndarray:
    """Blocks of random codes, their scales all one."""
    form = BLOCKS[name]
    blocks = np.random.default_rng(seed).integers(0, 256, (count, form.size_bytes), np.uint8)
    for block in blocks:
        for scale in form.scales:
            for share in range(scale.count):
                set_scale(block, scale, PATTERNS[scale.format]["one"], share)
    return blocks


def dequantized(name: str, blocks: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])


def has_reference(name: str) -> bool:
    kind = getattr(gguf.GGMLQuantizationType, name, None)
    return kind in gguf.quants._type_traits


@pytest.mark.parametrize("name", BLOCKS)
def test_finite_blocks_are_finite(name: str) -> None:
    form = BLOCKS[name]
    blocks = random_blocks(name, 7, seed=1)

    found = moments_of(name, blocks.reshape(-1))

    assert found == Moments(7 * form.elements, 0, 0, None, None, below_fp16=None)
    if has_reference(name):
        assert np.isfinite(dequantized(name, blocks)).all()


@pytest.mark.parametrize("name", BLOCKS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_not_finite_is_what_dequantisation_gives(name: str, data: st.DataObject) -> None:
    """NaN in any scale makes its values NaN; Inf makes them Inf, or NaN where a code is zero."""
    form = BLOCKS[name]
    blocks = random_blocks(name, data.draw(st.integers(1, 5)), seed=2)
    shares = max(scale.count for scale in form.scales)
    nan = np.zeros((len(blocks), shares), bool)
    inf = nan.copy()
    for at, block in enumerate(blocks):
        for scale in form.scales:
            for share in range(scale.count):
                kind = data.draw(st.sampled_from(sorted(PATTERNS[scale.format])))
                set_scale(block, scale, PATTERNS[scale.format][kind], share)
                nan[at, share] |= kind == "nan"
                inf[at, share] |= kind == "inf"

    found = moments_of(name, blocks.reshape(-1), Scratch(3 * form.size_bytes + 1))

    each = form.elements // shares
    assert found.nan_count == each * nan.sum()
    assert found.inf_count == each * (inf & ~nan).sum()
    if name in HALVES and has_reference(name):
        values = dequantized(name, blocks).reshape(len(blocks), shares, -1)
        assert np.isnan(values[nan]).all()
        assert (~np.isfinite(values)).sum() == found.nan_count + found.inf_count


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - {"MXFP4"}))
def test_scales_of_zero_make_zeros(name: str) -> None:
    """Only then the number of zeros is known; one other scale, and it is not."""
    form = BLOCKS[name]
    blocks = random_blocks(name, 3, seed=3)
    for block in blocks:
        for scale in form.scales:
            for share in range(scale.count):
                set_scale(block, scale, PATTERNS[scale.format]["zero"], share)

    assert moments_of(name, blocks.reshape(-1)).zero_count == 3 * form.elements
    if has_reference(name):
        assert not dequantized(name, blocks).any()
    set_scale(blocks[1], form.scales[-1], PATTERNS[form.scales[-1].format]["one"])
    assert moments_of(name, blocks.reshape(-1)).zero_count is None


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0"])
def test_a_nan_that_was_quantised_is_found(name: str) -> None:
    """What ggml's quantiser makes of a weight with one NaN: its whole block is lost."""
    weight = np.random.default_rng(4).standard_normal((4, 256)).astype("f4")
    kind = gguf.GGMLQuantizationType[name]
    assert moments_of(name, gguf.quants.quantize(weight, kind).reshape(-1)).nan_count == 0

    weight[2, 5] = np.nan
    with np.errstate(all="ignore"):
        packed = gguf.quants.quantize(weight, kind)

    assert moments_of(name, packed.reshape(-1)).nan_count == BLOCKS[name].elements
    assert np.isnan(dequantized(name, packed)).sum() == BLOCKS[name].elements


@pytest.mark.parametrize(("name", "code"), [("MXFP4", 0xFF), ("NVFP4", 0x7F), ("NVFP4", 0xFF)])
def test_scales_of_eight_bits_are_what_their_format_says(name: str, code: int) -> None:
    """ggml itself reads these NaN codes as numbers, so that a lost block would not be seen."""
    blocks = random_blocks(name, 2, seed=5)
    set_scale(blocks[1], BLOCKS[name].scales[0], code)
    shares = BLOCKS[name].scales[0].count

    assert moments_of(name, blocks.reshape(-1)).nan_count == BLOCKS[name].elements // shares
    assert not np.isnan(dequantized(name, blocks)).any()
