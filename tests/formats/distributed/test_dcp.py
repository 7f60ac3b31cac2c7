"""What `torch.distributed.checkpoint` itself saves, as its own reader reads it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.formats.opening import (
    candidate_at,
    discover,
    is_complete,
    is_whole,
    open_checkpoint,
    stat_members,
)
from sentinel.stats.comparison import compare
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")


@pytest.fixture
def trained():
    """A small model after one step, and its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 2, bias=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(3, 6)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def states(trained, *, flat: bool = False):
    from torch.distributed.checkpoint import state_dict  # noqa: PLC0415

    options = state_dict.StateDictOptions(flatten_optimizer_state_dict=flat)
    return state_dict.get_state_dict(*trained, options=options)


def samples() -> dict[str, object]:
    draw = torch.Generator().manual_seed(0)
    kinds = ("float32", "float64", "float16", "bfloat16", "int64", "int8", "uint8", "bool")
    raw = torch.randint(0, 2, (4, 16), generator=draw, dtype=torch.uint8)
    return {kind: raw.clone().view(getattr(torch, kind)) for kind in kinds} | {
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": torch.arange(24.0).reshape(4, 6).T,
        "a slice": torch.arange(24.0).reshape(4, 6)[1:3, 2:5],
        "float8_e4m3fn": raw.clone().view(torch.float8_e4m3fn),
    }


def test_every_tensor_is_where_torch_put_it(tmp_path, assert_equal):
    """Bit by bit as `dcp_to_torch_save` reads it, for every dtype and for views."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save  # noqa: PLC0415

    dcp.save({"model": samples(), "epoch": 3}, checkpoint_id=tmp_path / "step-30", no_dist=True)
    dcp_to_torch_save(tmp_path / "step-30", tmp_path / "whole.pt")

    found = open_checkpoint(tmp_path / "step-30")

    assert (found.layout, found.step, found.complete, found.faults) == ("dcp", 30, True, ())
    assert_equal(found, torch.load(tmp_path / "whole.pt")["model"])
    kinds = {one.name: one.dtype for one in found.tensors}
    assert (kinds["bfloat16"], kinds["float8_e4m3fn"], kinds["bool"]) == ("BF16", "F8_E4M3", "BOOL")


@pytest.mark.parametrize("flat", [True, False])
def test_an_optimizer_inside_is_one(tmp_path, trained, assert_equal, flat):
    """Both forms of torch: nested by parameter, and flat by the parameter's name."""
    model, optimizer = states(trained, flat=flat)
    dcp.save({"model": model, "optim": optimizer}, checkpoint_id=tmp_path / "x", no_dist=True)

    found = open_checkpoint(tmp_path / "x")

    assert_equal(found, dict(model))
    assert found.optimizer is not None
    (group,) = found.optimizer.groups
    assert (group.settings["lr"], group.settings["betas.1"]) == (1e-3, 0.999)
    assert group.parameter_count == 3
    kept = {one.name: one for one in found.optimizer.parameters}
    assert set(kept) == {"0.weight", "0.bias", "1.weight"}
    rows = measure(found, digest=False).optimizer.to_pylist()
    assert [row["step"] for row in rows] == [1.0] * 3
    assert {row["tensor"]: row["numel"] for row in rows} == {
        "0.weight": 24, "0.bias": 4, "1.weight": 8,
    }  # fmt: skip


def test_an_optimizer_of_indices_is_understood(tmp_path, trained):
    """`Optimizer.state_dict()` as it is: parameters are numbers there."""
    model, optimizer = trained
    saved = {"net": model.state_dict(), "optimizer": optimizer.state_dict()}
    dcp.save(saved, checkpoint_id=tmp_path / "x", no_dist=True)

    found = open_checkpoint(tmp_path / "x")

    assert {one.name for one in found.tensors} == {"net.0.weight", "net.0.bias", "net.1.weight"}
    assert found.optimizer is not None
    assert [one.index for one in found.optimizer.parameters] == [0, 1, 2]
    assert {one.group for one in found.optimizer.parameters} == {0}
    assert set(found.optimizer.parameters[0].tensors) == {"step", "exp_avg", "exp_avg_sq"}


def test_nan_in_a_second_moment_is_counted(tmp_path, trained):
    model, optimizer = states(trained)
    optimizer["state"]["0.bias"]["exp_avg_sq"][:] = 0
    optimizer["state"]["1.weight"]["exp_avg"][0, 0] = math.nan
    dcp.save({"model": model, "optim": optimizer}, checkpoint_id=tmp_path / "x", no_dist=True)

    rows = measure(open_checkpoint(tmp_path / "x"), digest=False).optimizer.to_pylist()

    by_name = {row["tensor"]: row for row in rows}
    assert by_name["0.bias"]["vanished_count"] == 4
    assert by_name["1.weight"]["nan_count"] == 1


def test_one_file_a_tensor_and_several_threads(tmp_path, assert_equal):
    """Other ways of writing put the chunks into other files."""
    for name, options in {
        "many": {"single_file_per_rank": False},
        "threads": {"thread_count": 3},
    }.items():
        writer = dcp.FileSystemWriter(tmp_path / name, **options)
        dcp.save({"model": samples()}, storage_writer=writer, no_dist=True)

        found = open_checkpoint(tmp_path / name)

        assert found.faults == ()
        assert len(found.members) > 3
        assert_equal(found, samples())


def test_safetensors_of_one_rank_are_an_ordinary_set(tmp_path, trained, assert_equal):
    """`HuggingFaceStorageWriter` without sharding writes what Transformers does."""
    model, _ = states(trained)
    writer = dcp.HuggingFaceStorageWriter(str(tmp_path))
    dcp.save(model, storage_writer=writer, no_dist=True)

    (candidate,) = discover(tmp_path)

    assert_equal(open_checkpoint(candidate.path), dict(model))


def test_safetensors_shards_of_one_rank(tmp_path, trained, assert_equal):
    model, _ = states(trained)
    writer = dcp.HuggingFaceStorageWriter(str(tmp_path / "x"), save_distributed=True)
    dcp.save(model, storage_writer=writer, no_dist=True)

    found = open_checkpoint(tmp_path / "x")

    assert (found.layout, found.complete, found.faults) == ("dcp", None, ())
    assert_equal(found, dict(model))


def test_without_its_description_it_is_still_being_written(tmp_path, trained):
    dcp.save({"model": states(trained)[0]}, checkpoint_id=tmp_path / "x", no_dist=True)
    (tmp_path / "x" / ".metadata").unlink()

    found = open_checkpoint(tmp_path / "x")

    assert (found.layout, found.complete) == ("dcp", False)
    assert {fault.rule for fault in found.faults} == {"missing-shard"}


def test_two_checkpoints_are_compared(tmp_path, trained):
    model, _ = states(trained)
    dcp.save({"model": model}, checkpoint_id=tmp_path / "a", no_dist=True)
    model["0.bias"] = model["0.bias"] + 1
    dcp.save({"model": model}, checkpoint_id=tmp_path / "b", no_dist=True)

    found = compare(open_checkpoint(tmp_path / "a"), open_checkpoint(tmp_path / "b"))

    assert [pair.first.name for pair in found.tensors if not pair.is_identical] == ["0.bias"]


def test_a_directory_of_steps_is_found_in_order(tmp_path, trained):
    """As torchtitan names them; nothing inside is taken for a checkpoint of its own."""
    for step in (200, 50):
        path = tmp_path / f"step-{step}"
        dcp.save({"model": states(trained)[0]}, checkpoint_id=path, no_dist=True)

    found = list(discover(tmp_path))

    assert [(one.layout, one.step) for one in found] == [("dcp", 50), ("dcp", 200)]
    assert found[0].group == found[1].group
    assert candidate_at(tmp_path / "step-50" / "__0_0.distcp") is None


def adapter(*, up: float = 0.5) -> dict[str, object]:
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    return {
        f"{name}.lora_A.weight": torch.full((2, 6), 0.1),
        f"{name}.lora_B.weight": torch.full((4, 2), up),
    }


def test_a_scan_judges_what_lies_in_chunks(tmp_path):
    """NaN is found; a missing file makes it unreadable, and nothing else."""
    import sentinel  # noqa: PLC0415

    for step, up in ((1, 0.5), (2, math.nan), (3, 0.5)):
        path = tmp_path / f"step-{step}"
        dcp.save({"model": adapter(up=up)}, checkpoint_id=path, no_dist=True)
    (tmp_path / "step-3" / "__0_0.distcp").rename(tmp_path / "step-3" / "__1_0.distcp")

    found = [one.verdict.level for one in sentinel.scan(tmp_path)]

    assert found == ["healthy", "faulty", "unreadable"]


def test_it_is_whole_when_every_chunk_is(tmp_path):
    dcp.save({"model": adapter()}, checkpoint_id=tmp_path / "x", no_dist=True)
    candidate = candidate_at(tmp_path / "x")
    assert (is_whole(candidate), is_complete(candidate)) == (True, True)
    seen = stat_members(candidate.path, candidate.layout)
    assert set(seen) == set(open_checkpoint(candidate.path).members)
    chunks = tmp_path / "x" / "__0_0.distcp"
    chunks.write_bytes(chunks.read_bytes()[:-1])
    assert not is_whole(candidate)


def test_zeros_at_the_end_of_a_shard_are_no_torn_write(tmp_path):
    """Chunks of several tensors end a file, not the last whole tensor in it."""
    import sentinel  # noqa: PLC0415

    for rank in (1, 2):
        data = {"a": np.zeros((200, 4), "f4"), "w": np.full((64, 8), 1 + rank, "f4")}
        if rank == 1:
            data["b"] = np.concatenate([np.ones((100, 4), "f4"), np.zeros((300, 4), "f4")])
        info = {name: {"saved_offsets": [0, 0]} for name in data}
        info["w"] = {"saved_offsets": [64 * (rank - 1), 0]}
        info["a"] = {"saved_offsets": [200 * (rank - 1), 0]}
        name = f"shard-{rank:05d}-model-00001-of-00001.safetensors"
        save_file(data, tmp_path / name, {"DCP_SHARDING_INFO": json.dumps(info)})

    (judgement,) = sentinel.scan(tmp_path)

    assert judgement.checkpoint.layout == "dcp"
    assert {one.name: one.shape for one in judgement.checkpoint.tensors} == {
        "a": (400, 4), "b": (400, 4), "w": (128, 8),
    }  # fmt: skip
    rules = {finding.rule for finding in judgement.verdict.findings}
    assert not rules & {"zero-filled-tail", "malformed-file"}


def test_shards_with_a_hole_are_told(tmp_path):
    for rank, begin in ((1, 0), (3, 8)):
        info = {"w": {"saved_offsets": [begin, 0]}}
        name = f"shard-{rank:05d}-model-00001-of-00001.safetensors"
        data = {"w": np.ones((4, 2), "f4")}
        save_file(data, tmp_path / name, {"DCP_SHARDING_INFO": json.dumps(info)})

    (fault,) = open_checkpoint(tmp_path).faults

    assert fault.rule == "malformed-file"
    assert "16 of its 24 elements" in fault.message
