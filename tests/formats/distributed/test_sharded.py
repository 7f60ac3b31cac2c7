"""Checkpoints of two processes: torch's FSDP2 and DTensors, accelerate, Transformers."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from sentinel.formats.opening import discover, open_checkpoint, stat_members
from sentinel.stats.measure import measure

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, run_ranks):
    """Two processes of torch's own FSDP2 and DTensors, run once."""
    root = tmp_path_factory.mktemp("fsdp")
    run_ranks(root, "fsdp.py", root)
    return root


@pytest.fixture(scope="module")
def accelerated(tmp_path_factory, run_ranks):
    """Two processes that accelerate's savers were called in, run once."""
    for name in ("accelerate", "peft", "transformers"):
        pytest.importorskip(name)
    root = tmp_path_factory.mktemp("accelerated")
    run_ranks(root, "accelerated.py", root)
    return root


@pytest.mark.parametrize("name", ["tensors", "shards"])
def test_chunks_of_two_processes_are_one_tensor(trained, assert_equal, name):
    """Rows, columns, a kernel's last axis, an empty chunk: bit by bit as torch gathers them."""
    found = open_checkpoint(trained / name)

    assert (found.layout, found.faults) == ("dcp", ())
    assert_equal(found, torch.load(trained / f"{name}.pt"))
    pieces = {one.name: len(one.pieces) for one in found.tensors}
    assert (pieces["rows"], pieces["columns"], pieces["kernel"]) == (2, 2, 2)
    assert (pieces["one row"], pieces["replicated"], pieces["plain"]) == (0, 0, 0)


@pytest.mark.parametrize("flat", [False, True])
def test_fsdp_with_its_optimizer(trained, assert_equal, flat):
    found = open_checkpoint(trained / f"fsdp-{flat}")

    assert found.faults == ()
    assert_equal(found, torch.load(trained / f"fsdp-{flat}.pt"))
    assert found.optimizer is not None
    assert [group.parameter_count for group in found.optimizer.groups] == [3]
    rows = measure(found, digest=False).optimizer.to_pylist()
    assert {row["tensor"]: (row["numel"], row["step"]) for row in rows} == {
        "0.weight": (24, 1.0), "0.bias": (4, 1.0), "1.weight": (8, 1.0),
    }  # fmt: skip
    assert all(row["vanished_count"] == 0 for row in rows)


def test_measuring_chunks_gives_the_numbers_of_the_whole(trained):
    found = open_checkpoint(trained / "tensors")
    whole = torch.load(trained / "tensors.pt")

    rows = {row["tensor"]: row for row in measure(found, digest=False).tensors.to_pylist()}

    for name, tensor in whole.items():
        assert rows[name]["numel"] == tensor.numel()
        assert rows[name]["l2"] == pytest.approx(float(tensor.double().norm()), rel=1e-6)
        assert rows[name]["max"] == float(tensor.max())


def test_a_chunk_of_a_missing_rank_is_a_missing_shard(trained, tmp_path):
    path = shutil.copytree(trained / "tensors", tmp_path / "x")
    (path / "__1_0.distcp").unlink()

    found = open_checkpoint(path)

    assert [(f.rule, f.part, f.member) for f in found.faults] == [
        ("missing-shard", "weights", "__1_0.distcp")
    ]
    assert "rows" not in {one.name for one in found.tensors}


def test_a_state_of_accelerate_is_one_checkpoint(accelerated, assert_equal):
    """Its directories of chunks are parts of it; the frozen base in them is no adapter."""
    (candidate,) = discover(accelerated / "state")
    found = open_checkpoint(candidate.path)

    assert (found.layout, found.complete, found.faults) == ("accelerate-state", True, ())
    assert_equal(found, torch.load(accelerated / "whole.pt"))
    roles = Counter(one.role for one in found.tensors)
    assert (roles["lora_up"], roles["lora_down"]) == (4, 4)
    assert roles["base"] == len(found.tensors) - 8
    assert found.optimizer is not None
    assert len(found.optimizer.parameters) == 8
    assert stat_members(candidate.path, found.layout) == tuple(
        sorted(found.members, key=lambda member: ("/" in member.path, member.path))
    )


def test_a_checkpoint_of_the_trainer_holds_the_adapter_in_chunks(accelerated):
    found = [one for one in discover(accelerated) if one.path.name.startswith("checkpoint")]
    (checkpoint,) = map(open_checkpoint, (one.path for one in found))

    assert (checkpoint.layout, checkpoint.step) == ("transformers-trainer", 2)
    assert (checkpoint.complete, checkpoint.faults) == (True, ())
    assert {one.role for one in checkpoint.tensors} == {"lora_up", "lora_down"}
    assert checkpoint.settings["precision.adapter"] == "fp32"
    norms = measure(checkpoint, digest=False).pairs["norm"].to_pylist()
    assert len(norms) == 4
    assert all(norm > 0 for norm in norms)


def test_a_part_that_the_user_names_is_read_too(accelerated):
    found = open_checkpoint(accelerated / "checkpoint-2" / "pytorch_model_fsdp_0")
    assert (found.layout, found.faults, len(found.tensors)) == ("unknown", (), 8)


def test_a_missing_file_of_the_optimizer_leaves_the_weights(accelerated, tmp_path):
    path = shutil.copytree(accelerated / "checkpoint-2", tmp_path / "checkpoint-2")
    (path / "optimizer_0" / "__0_0.distcp").unlink()

    found = open_checkpoint(path)

    assert {(fault.rule, fault.part) for fault in found.faults} == {("missing-shard", "optimizer")}
    assert len(found.tensors) == 8
