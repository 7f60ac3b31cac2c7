"""Measuring a whole checkpoint: its rows, its digests, and files that change underneath."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash
from safetensors.numpy import save_file

from sentinel.checkpoint import Base, BaseWeight, Checkpoint, Fault, Metric
from sentinel.errors import ChangedWhileReadError
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.tables import GIVEN
from sentinel.stats import table
from sentinel.stats.measure import measure
from sentinel.stats.samples import with_same_share

Save = Callable[[dict[str, np.ndarray]], Checkpoint]


@pytest.fixture
def checkpoint(saved: Save) -> Checkpoint:
    return saved(
        {
            "a.lora_up.weight": np.zeros((4, 2), "f2"),
            "a.lora_down.weight": np.arange(6, dtype="f4").reshape(2, 3),
            "a.alpha": np.array(1.0, "f8"),
            "empty": np.zeros((0, 5), "f4"),
        }
    )


def test_rows_tell_what_the_file_holds(checkpoint: Checkpoint) -> None:
    """One row a tensor, values and all, with the digest of exactly its bytes."""
    rows = {row["tensor"]: row for row in measure(checkpoint, digest=True).tensors.to_pylist()}

    down = rows["a.lora_down.weight"]
    assert (down["zero_count"], down["max"], down["mean"]) == (1, 5.0, 2.5)
    assert down["digest"] == xxhash.xxh3_128_hexdigest(np.arange(6, dtype="f4").tobytes())
    assert (down["shape"], down["numel"], down["role"]) == ([2, 3], 6, "lora_down")
    assert rows["a.lora_up.weight"]["zero_at_init"] is True
    assert (rows["empty"]["numel"], rows["empty"]["nan_count"]) == (0, 0)
    assert rows["empty"]["max"] is None


def test_without_digest_the_column_is_null(checkpoint: Checkpoint) -> None:
    assert measure(checkpoint, digest=False).tensors["digest"].null_count == 4


@pytest.mark.parametrize("jobs", [2, 5])
def test_threads_change_nothing(
    checkpoint: Checkpoint, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and their order are the same however many threads read, however small the tensors."""
    alone = measure(checkpoint, digest=True)
    monkeypatch.setattr("sentinel.stats.measure.SHARED_BYTES", 0)

    assert measure(checkpoint, digest=True, jobs=jobs) == alone


def test_every_byte_is_ticked_once(checkpoint: Checkpoint) -> None:
    ticks: list[int] = []

    measure(checkpoint, digest=False, tick=ticks.append)

    assert sum(ticks) == sum(tensor.size_bytes for tensor in checkpoint.tensors)


def rewrite(path: Path) -> None:
    save_file({"x": np.ones(9, "f4")}, path)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", [rewrite, shorten, touch, Path.unlink])
def test_a_file_changed_since_it_was_opened_is_refused(
    checkpoint: Checkpoint, change: Callable[[Path], None]
) -> None:
    change(checkpoint.path)

    with pytest.raises(ChangedWhileReadError):
        measure(checkpoint, digest=False)


@pytest.mark.parametrize("change", [rewrite, shorten, touch])
def test_a_file_changed_while_it_is_read_is_refused(
    checkpoint: Checkpoint, change: Callable[[Path], None]
) -> None:
    """The change comes after the first tensor was read, before the last."""
    pending = [change]

    def tick(_size_bytes: int) -> None:
        if pending:
            pending.pop()(checkpoint.path)

    with pytest.raises(ChangedWhileReadError):
        measure(checkpoint, digest=False, tick=tick)


def test_only_weights_are_measured(checkpoint: Checkpoint) -> None:
    members = tuple(replace(member, part="optimizer") for member in checkpoint.members)

    measured = measure(replace(checkpoint, members=members), digest=False)

    assert measured.tensors.num_rows == 0
    assert measured.pairs.num_rows == 0


def test_a_checkpoint_and_its_numbers_cross_a_process_border(checkpoint: Checkpoint) -> None:
    again = pickle.loads(pickle.dumps((checkpoint, measure(checkpoint, digest=True))))

    assert again == (checkpoint, measure(checkpoint, digest=True))


def test_tables_have_the_columns_that_rules_are_checked_against(checkpoint: Checkpoint) -> None:
    """A column renamed here and not there would be NULL for every rule."""
    measured = measure(checkpoint, digest=True)
    base = Base(Path("b"), "nf4", "fp32", (BaseWeight("m", "m.weight", "U8", "nf4", 4, 3),))

    told = with_same_share(measured.tensors, None).drop_columns(["sample"])
    assert told.column_names == list(GIVEN["tensors"])
    assert measured.pairs.column_names == list(GIVEN["pairs"])
    assert table.metrics_table(checkpoint).column_names == list(GIVEN["metrics"])
    assert table.faults_table(checkpoint).column_names == list(GIVEN["faults"])
    assert table.base_table(base).column_names == list(GIVEN["base"])
    assert table.base_table(base).to_pylist()[0]["compute_dtype"] == "fp32"


def test_settings_become_columns_that_cannot_hide_the_fixed_ones(checkpoint: Checkpoint) -> None:
    """Names come from files: odd ones are left out, the checkpoint's own columns win."""
    settings = {
        "precision.adapter": "fp32",
        "device.bf16": False,
        "Step": 9,
        "a'; drop": 1,
        "optimizer.LR": 0.5,
        "optimizer_lr": 7,
    }

    [row] = table.checkpoint_table(replace(checkpoint, step=3, settings=settings)).to_pylist()

    assert (row["step"], row["precision_adapter"], row["device_bf16"]) == (3, "fp32", False)
    assert row["optimizer_lr"] == 0.5
    assert not [name for name in row if "drop" in name]


def test_metrics_and_faults_keep_their_rows(checkpoint: Checkpoint) -> None:
    told = replace(
        checkpoint,
        metrics=(Metric(3, "loss", float("nan")),),
        faults=(Fault("missing-shard", "weights", "b\udcff", "gone"),),
    )

    [metric] = table.metrics_table(told).to_pylist()
    [fault] = table.faults_table(told).to_pylist()

    assert (metric["step"], metric["name"]) == (3, "loss")
    assert metric["value"] != metric["value"]
    assert fault["member"] == "b\\xff"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no undecodable names")
def test_an_undecodable_name_reaches_the_tables_escaped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"w\xff.safetensors")
    save_file({"x": np.ones(2, "f4")}, tmp_path / "w")
    (tmp_path / "w").rename(path)

    checkpoint = open_checkpoint(path)

    assert measure(checkpoint, digest=False).tensors["member"].to_pylist() == ["w\\xff.safetensors"]
    assert table.checkpoint_table(checkpoint)["path"][0].as_py().endswith("w\\xff.safetensors")
