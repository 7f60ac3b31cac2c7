"""A quick scan against a whole one: nothing passed unseen, nothing invented, and it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import sentinel
from corpus.case import Case
from corpus.registry import CASES
from sentinel.flow import Judgement
from sentinel.rules.load import load_rules

RULES = load_rules()


def both(path: Path) -> list[tuple[Judgement, Judgement]]:
    whole = sentinel.scan(path, rules=RULES, settle_s=0)
    quick = sentinel.scan(path, rules=RULES, settle_s=0, depth="quick")
    return list(zip(whole, quick, strict=True))


def assert_honest(whole: Judgement, quick: Judgement) -> None:
    """What the whole scan found the quick one found too, or says that it did not look."""
    found = {one.rule: one.severity for one in quick.verdict.findings}
    unasked = {one.rule for one in quick.verdict.not_evaluated}
    expected = {one.rule: one.severity for one in whole.verdict.findings}
    assert {**expected, **found} == expected
    assert expected.keys() - found.keys() <= unasked
    assert {one.rule for one in whole.verdict.not_evaluated} <= unasked | found.keys()


def marked(number: int, case: Case) -> object:
    """One case of thirty by default, every one among the slow tests."""
    marks = [] if number % 30 == 0 and not case.slow else [pytest.mark.slow]
    return pytest.param(case, id=case.id, marks=marks)


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [marked(number, one) for number, one in enumerate(CASES)])
def test_nothing_passes_that_was_not_looked_at(case, tmp_path) -> None:
    for name in case.needs:
        pytest.importorskip(name)
    case.written(tmp_path, 1)

    for whole, quick in both(tmp_path):
        assert_honest(whole, quick)


def adapter(path: Path, **changed: np.ndarray) -> Path:
    draw = np.random.default_rng(1)
    values = {
        f"base_model.model.layers.{n}.q_proj.lora_{side}.weight": draw.normal(0, 0.02, shape)
        for n in range(4)
        for side, shape in (("A", (8, 256)), ("B", (256, 8)))
    }
    tensors = {name: value.astype("f4") for name, value in values.items()}
    for end, value in changed.items():
        name = next(name for name in tensors if name.endswith(f"{end}.weight"))
        tensors[name] = value
    save_file(tensors, path)
    return path


def test_a_nan_in_the_side_that_is_only_screened(tmp_path) -> None:
    """The screen sees one NaN among the down matrices, and the verdict is the whole scan's."""
    value = np.ones((8, 256), "f4")
    value[5, 77] = np.nan

    ((whole, quick),) = both(adapter(tmp_path / "lora.safetensors", lora_A=value))

    assert quick.verdict.level == whole.verdict.level == "faulty"
    assert "nan-values" in {one.rule for one in quick.verdict.findings}


def test_what_was_skipped_is_counted(tmp_path) -> None:
    """The up matrices are measured whole, the others screened, and both are told."""
    ((whole, quick),) = both(adapter(tmp_path / "lora.safetensors"))

    assert quick.measured is not None
    assert whole.measured is not None
    assert whole.measured.skipped is None
    assert quick.measured.skipped is not None
    assert (quick.measured.skipped.screened_count, quick.measured.skipped.screened_bytes) == (
        4,
        4 * 8 * 256 * 4,
    )
    rows = {row["tensor"]: row for row in quick.measured.tensors.to_pylist()}
    known = {row["tensor"]: row for row in whole.measured.tensors.to_pylist()}
    for name, row in rows.items():
        is_up = "lora_B" in name
        assert (row["abs_max"] == known[name]["abs_max"]) == is_up
        assert (row["nan_count"], row["zero_count"]) == (0, 0)
    assert {"rank-collapse", "norm-explosion"} <= {one.rule for one in quick.verdict.not_evaluated}
