"""What the log keeps for pictures: norms, what stayed as it was, losses, each as measured."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sentinel.checkpoint import Checkpoint, Metric
from sentinel.health.beside import with_norms, with_unchanged
from sentinel.health.log import HealthLog
from sentinel.health.modules import module_numbers, value_ranges
from sentinel.health.rows import MOST_LOSSES, CheckpointRow, checkpoint_row
from sentinel.scanning import scan
from sentinel.verdict import Verdict

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUN = "0d9f8c1e-4f0b-4b3a-9a51-0a7f0a6f2f11"


@pytest.fixture
def measured(tmp_path):
    """Two checkpoints of one adapter: of two modules the second moves from one to the other."""
    draw = np.random.default_rng(0)
    still = {
        "lora_unet_a.lora_down.weight": draw.normal(0, 1, (4, 32)).astype("f4"),
        "lora_unet_a.lora_up.weight": draw.normal(0, 1, (16, 4)).astype("f4"),
        "lora_unet_a.alpha": np.array(2, "f4"),
        "lora_unet_b.lora_down.weight": draw.normal(0, 1, (4, 32)).astype("f4"),
    }
    for step in (10, 20):
        moved = {"lora_unet_b.lora_up.weight": draw.normal(0, 1, (16, 4)).astype("f4")}
        save_file(still | moved, tmp_path / f"cat-{step:06}.safetensors")
    first, second = (one.measured for one in scan(tmp_path, rules=()))
    return first, second, still


def test_norms_stand_in_the_row_of_the_up_matrix(measured):
    """As NumPy computes scale·B·A; every other row has none."""
    first, _, still = measured

    table = with_norms(first.tensors, first.pairs, first.effects)

    norms = dict(zip(table["tensor"].to_pylist(), table["effect_norm"].to_pylist(), strict=True))
    product = still["lora_unet_a.lora_up.weight"] @ still["lora_unet_a.lora_down.weight"]
    assert norms["lora_unet_a.lora_up.weight"] == pytest.approx(
        np.linalg.norm(product) * 2 / 4, rel=1e-5
    )
    assert [name for name, norm in norms.items() if norm is not None] == [
        name for name in norms if name.endswith("lora_up.weight")
    ]
    assert table["base_norm"].null_count == table.num_rows


def test_what_stayed_as_it_was(measured):
    """By the bytes' digests; nothing is known of a first checkpoint."""
    first, second, still = measured

    table = with_unchanged(second.tensors, first.tensors)

    same = dict(zip(table["tensor"].to_pylist(), table["unchanged"].to_pylist(), strict=True))
    assert {name for name, one in same.items() if one} == set(still)
    assert with_unchanged(first.tensors, None)["unchanged"].null_count == first.tensors.num_rows


def losses(step: int, values: dict[int, float], after: int | None = None) -> dict[int, float]:
    """What a row keeps of the losses that a checkpoint's log holds."""
    metrics = tuple(Metric(at, "loss", value) for at, value in values.items())
    checkpoint = Checkpoint(
        Path("x"), "peft", None, step, None, None, None, (), (), metrics=metrics
    )
    row = checkpoint_row(
        checkpoint,
        Verdict("healthy", ("weights",)),
        run_id="r",
        attempt=1,
        seq=1,
        checkpoint_id="c",
        parent=None,
        seen_at=NOW,
        settled_at=None,
        judged_at=NOW,
        measure_s=None,
        losses_after=after,
    )
    return dict(zip(row.loss_steps, row.losses, strict=True))


def test_losses_since_the_checkpoint_before():
    """Not those before it, and none that lies in the future of the checkpoint."""
    values = {10: 3.0, 20: 2.0, 25: 1.5, 30: 1.0, 40: 0.5}

    assert losses(30, values, after=20) == {25: 1.5, 30: 1.0}
    assert losses(30, values) == {10: 3.0, 20: 2.0, 25: 1.5, 30: 1.0}
    assert losses(30, {}) == {}


@given(st.integers(1, 3000), st.integers(0, 100))
def test_many_losses_are_thinned(count, after):
    """Evenly, to so many at most, in order, and the newest always among them."""
    values = {after + number: float(number) for number in range(1, count + 1)}

    kept = losses(after + count, values, after=after)

    assert len(kept) <= MOST_LOSSES
    assert list(kept) == sorted(kept)
    assert kept[after + count] == float(count)
    gaps = {later - step for step, later in pairwise(kept)}
    assert len(gaps) <= 1


def test_numbers_for_pictures_are_those_of_the_log(measured, tmp_path):
    """Norms, counts and magnitudes as measured, of the checkpoints that were asked for."""
    log = HealthLog(tmp_path / "log")
    for number, one in enumerate(measured[:2]):
        tensors = with_norms(one.tensors, one.pairs, one.effects)
        before = measured[0].tensors if number else None
        row = story_row(number)
        log.append(row, with_unchanged(tensors, before))
    (name,) = {story_row(1).checkpoint_id}

    found = {one.module: one for one in module_numbers(log.root, RUN, [name])}
    ranges = value_ranges(log.root, RUN, [name])

    assert set(found) == {"lora_unet_a", "lora_unet_b"}
    norms = measured[1].pairs.select(["module", "norm"]).to_pylist()
    assert {one["module"]: one["norm"] for one in norms} == {
        module: one.norm for module, one in found.items()
    }
    # The alpha is no weight: it is left out of shares and magnitudes.
    assert [(one.numel, one.same, one.compared) for one in found.values()] == [
        (192, 192, 192),
        (192, 128, 192),
    ]
    assert [(one.role, one.dtype) for one in ranges] == [("lora_down", "F32"), ("lora_up", "F32")]
    largest = max(np.abs(value).max() for key, value in measured[2].items() if "down" in key)
    assert ranges[0].largest == pytest.approx(float(largest))
    assert module_numbers(log.root, RUN, []) == ()


def story_row(seq: int) -> CheckpointRow:
    return CheckpointRow(
        RUN, 1, seq, f"{seq:032x}", None, "x", "kohya", None, 10 * seq, None, None, 1, 5, ("F32",),
        "healthy", ("weights",), None, NOW, None, NOW,
    )  # fmt: skip
