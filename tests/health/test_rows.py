from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint, Member, Metric, Tensor
from sentinel.health.plain import json_text, path_text, plain, valid_text
from sentinel.health.rows import checkpoint_row
from sentinel.verdict import Finding, Verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_row_says_what_was_judged():
    """Sizes, dtypes, verdict and the last number logged up to the checkpoint's step."""
    tensors = tuple(
        Tensor(name, "a.safetensors", dtype, (2,), 0, 4)
        for name, dtype in (("x", "F16"), ("y", "BF16"), ("z", "F16"))
    )
    checkpoint = Checkpoint(
        path=Path("/runs/caf\udce9"),
        layout="peft",
        trainer=None,
        step=20,
        epoch=None,
        updates_done=19,
        complete=None,
        members=(Member("a.safetensors", "weights", 12, 1, 1, 1),),
        tensors=tensors,
        metrics=(Metric(20, "loss", 2.0), Metric(10, "loss", 3.0), Metric(30, "loss", 1.0)),
        settings={"precision.adapter": "fp16"},
    )
    verdict = Verdict("faulty", ("optimizer",), (Finding("r", "critical", "why"),))

    row = checkpoint_row(
        checkpoint,
        verdict,
        run_id="r",
        attempt=1,
        seq=1,
        checkpoint_id="c",
        parent=None,
        seen_at=NOW,
        settled_at=None,
        judged_at=NOW,
        measure_s=None,
    )

    assert row.path == str(Path("/runs/caf")) + "\\xe9"
    assert (row.size_bytes, row.tensor_count, row.dtypes) == (12, 3, ("BF16", "F16"))
    assert (row.verdict, row.usable, row.reason) == ("faulty", ("optimizer",), "why")
    assert row.settings == {"precision.adapter": "fp16", "metrics.loss": 2.0}


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_unicode_and_stays_what_it_is(text):
    """The result encodes, and valid text is not touched."""
    once = valid_text(text)

    assert once.encode("utf-8").decode("utf-8") == once
    assert valid_text(once) == once


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_value_becomes_json(value):
    """Whatever settings hold can be told as JSON, once and for all."""
    assert plain(plain(value)) == plain(value)
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == plain(value)
    assert "\n" not in text


def test_other_values_become_their_text():
    """Paths, times and sets are told, keys are texts."""
    told = plain({1: Path("a"), "t": (NOW, {2}), "n": float("-inf")})

    assert told == {"1": "a", "t": [str(NOW), [2]], "n": "-inf"}
    assert path_text(Path("a\udcff")) == "a\\xff"
