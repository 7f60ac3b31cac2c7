"""Lines drawn from numbers and verdicts: never wider than asked, never better than the truth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.reports.spark import BLOCKS, PLAIN, SIGNS, drawn, span_words, sparkline, verdict_strip
from sentinel.verdict import LEVELS

VALUES = st.lists(st.none() | st.floats(), max_size=300)


@given(VALUES, st.integers(1, 100), st.sampled_from(["utf-8", "ascii", "cp1252", "cp437"]))
def test_a_line_fits_and_can_be_printed(values, width, encoding):
    """One column a value or fewer; in an encoding without blocks plain signs stand for them."""
    line = sparkline(values, width, encoding)

    assert len(line) == min(len(values), width)
    line.encode(encoding)
    heights = BLOCKS if encoding == "utf-8" else PLAIN
    assert set(line) <= {*heights, " ", "!"}
    assert ("!" in line) == any(v is not None and not math.isfinite(v) for v in values)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=80))
def test_higher_is_never_drawn_lower(values):
    """The least is drawn lowest, the largest highest, and order between two is kept."""
    line = sparkline(values, len(values), "utf-8")

    heights = dict(zip(values, (BLOCKS.index(sign) for sign in line), strict=True))
    assert heights[min(values)] == 0
    assert [heights[one] for one in sorted(heights)] == sorted(heights.values())
    if max(values) / 2 > min(values) / 2:
        assert heights[max(values)] == len(BLOCKS) - 1


def test_cp437_has_some_blocks_only():
    """An encoding that has a part of the blocks gets none: heights would be missing."""
    assert sparkline([0.0, 1.0], 2, "cp437") == f"{PLAIN[0]}{PLAIN[-1]}"


def test_a_peak_survives_being_put_together():
    """A single spike or NaN among a thousand values is seen."""
    spike = [1.0] * 1000
    spike[500] = 9.0

    assert BLOCKS[-1] in sparkline(spike, 20, "utf-8")
    assert "!" in sparkline([*spike[:700], math.nan, *spike], 20, "utf-8")


@given(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=300), st.integers(1, 100))
def test_a_strip_hides_no_fault(levels, width):
    """However many verdicts a column holds, it shows the worst of them."""
    strip = verdict_strip(levels, width).plain

    assert len(strip) == min(len(levels), width)
    worst = max(levels, key=LEVELS.index)
    assert SIGNS[worst] in strip
    assert set(strip) <= {SIGNS[level] for level in levels}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], ""),
        ([None], ""),
        ([2.0], "2"),
        ([2.5, None, 0.04579], "2.5 to 0.0458"),
        ([2.5, 7.0, 1.0], "2.5 to 1, at most 7"),
        ([2.5, math.nan], "2.5 to nan"),
    ],
)
def test_the_numbers_beside_it(values, words):
    """The first and the last, and the largest where it lies between."""
    assert span_words(values) == words


def test_what_nobody_knows_is_not_drawn():
    """A series without a value has no line, one checkpoint alone has none at all."""
    series = {"loss": [None, None], "norm": [1.0, None]}

    lines = [one.plain for one in drawn(["healthy", "faulty"], series, 10, "ascii")]

    assert lines == ["verdicts  .!", "norm      _   1"]
    assert list(drawn(["healthy"], {"loss": [1.0]}, 10, "ascii")) == []
