"""Files laid out as DeepSpeed's savers do, small enough to be written without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sentinel.checkpoint import Tensor
from sentinel.daemon.arrivals import Arrived
from sentinel.daemon.candidates import Candidates
from sentinel.formats.flat_shards import Flat, boxes_of, tensor_of
from sentinel.formats.opening import candidate_at, discover, open_checkpoint

torch = pytest.importorskip("torch")


@given(st.lists(st.integers(1, 5), max_size=4), st.data())
def test_boxes_of_a_range_hold_it_in_its_order(shape, data):
    numel = int(np.prod(shape))
    start = data.draw(st.integers(0, numel))
    count = data.draw(st.integers(0, numel - start))
    order = np.arange(numel).reshape(shape)

    found = [
        order[tuple(slice(at, at + n) for at, n in zip(place, extents, strict=True))].ravel()
        for place, extents in boxes_of(tuple(shape), start, count)
    ]

    assert [int(one) for part in found for one in part] == list(range(start, start + count))
    assert len(found) <= 2 * max(len(shape), 1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.data())
def test_runs_of_a_row_go_over_its_segments(lengths, data):
    segments = [
        Tensor("", f"{at}.pt", "F32", (n,), 100 * at, 4 * n) for at, n in enumerate(lengths)
    ]
    start = data.draw(st.integers(0, sum(lengths)))
    count = data.draw(st.integers(0, sum(lengths) - start))

    runs = list(Flat(segments).runs(start, count))

    cells = [(f"{at}.pt", 100 * at + 4 * one) for at, n in enumerate(lengths) for one in range(n)]
    taken = [(run.member, run.offset + 4 * one) for run in runs for one in range(run.count)]
    assert taken == cells[start : start + count]
    whole = tensor_of("w", "F32", (count,), runs)
    assert (whole.shape, whole.size_bytes) == ((count,), 4 * count)


def zero_2(path: Path, world: int = 2, **changes: object) -> Path:
    """Two parameters of 6 and 3 elements in one group, cut between the processes."""
    path.mkdir(parents=True)
    shapes = {"a.weight": torch.Size([2, 3]), "b.weight": torch.Size([3])}
    model = {
        "module": {"a.weight": torch.ones(2, 3).half(), "b.weight": torch.ones(3).half()},
        "buffer_names": [], "param_shapes": [shapes], "dp_world_size": world,
        "global_steps": 7, "ds_version": "0.15.0", **changes,
    }  # fmt: skip
    torch.save(model, path / "mp_rank_00_model_states.pt")
    each = 10 // world
    for rank in range(world):
        flat = torch.arange(each * rank, each * (rank + 1)).float()
        state = {"step": 7, "exp_avg": flat + 1, "exp_avg_sq": torch.zeros(each)}
        inner = {
            "base_optimizer_state": {
                "state": {0: state},
                "param_groups": [{"lr": 0.1, "eps": 1e-8, "params": [0]}],
            },
            "single_partition_of_fp32_groups": [flat],
            "partition_count": [world],
        }
        name = f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"
        torch.save({"optimizer_state_dict": inner, "ds_version": "0.15.0"}, path / name)
    return path


def test_vanished_moments_are_counted_by_parameter(tmp_path):
    from sentinel.stats.measure import measure  # noqa: PLC0415

    found = open_checkpoint(zero_2(tmp_path / "global_step7"))

    rows = {row["tensor"]: row for row in measure(found, digest=False).optimizer.to_pylist()}
    assert (found.step, found.faults) == (7, ())
    assert {name: row["vanished_count"] for name, row in rows.items()} == {
        "a.weight": 6, "b.weight": 3,
    }  # fmt: skip
    assert {row["step"] for row in rows.values()} == {7.0}


def test_shapes_that_do_not_fit_are_a_fault(tmp_path):
    shapes = [{"a.weight": torch.Size([2, 3]), "b.weight": torch.Size([30])}]
    found = open_checkpoint(zero_2(tmp_path / "global_step7", param_shapes=shapes))
    (fault,) = found.faults
    assert (fault.rule, fault.part) == ("malformed-file", "optimizer")
    assert "do not fit" in fault.message
    assert len(found.tensors) == 2


def test_latest_tells_whether_a_save_is_whole(tmp_path):
    """It is written last, and names the newest; without it nothing is known."""
    one = zero_2(tmp_path / "global_step7")
    assert open_checkpoint(one).complete is None
    (tmp_path / "latest").write_text("global_step3")
    assert open_checkpoint(one).complete is False
    (tmp_path / "latest").write_text("global_step7")
    assert open_checkpoint(one).complete is True
    (tmp_path / "latest").write_text("global_step9")
    assert open_checkpoint(one).complete is True


@pytest.mark.parametrize("tag", ["global_step9", "a/b", "../x", ""])
def test_a_latest_that_names_what_is_not_there_is_told(tmp_path, tag):
    zero_2(tmp_path / "out" / "global_step7")
    (tmp_path / "out" / "zero_to_fp32.py").write_text("")
    (tmp_path / "out" / "latest").write_text(tag)

    found = [open_checkpoint(one.path) for one in discover(tmp_path)]

    told = [fault for one in found for fault in one.faults]
    assert [fault.rule for fault in told] == (["missing-shard"] if tag == "global_step9" else [])


def test_inside_the_trainers_checkpoint_the_adapter_counts(tmp_path):
    """Weights beside the states are read from their own file, the states tell the optimizer."""
    path = tmp_path / "checkpoint-7"
    zero_2(path / "global_step7")
    (path / "latest").write_text("global_step7")
    tensors = {"base_model.model.q.lora_A.weight": np.ones((2, 3), "f4")}
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "trainer_state.json").write_text('{"global_step": 7, "log_history": []}')

    (candidate,) = discover(tmp_path)
    found = open_checkpoint(candidate.path)

    assert (found.layout, found.step, found.complete) == ("transformers-trainer", 7, True)
    assert [one.name for one in found.tensors] == list(tensors)
    assert found.optimizer is not None
    assert {one.name for one in found.optimizer.parameters} == {"a.weight", "b.weight"}
    assert candidate_at(path / "global_step7") is None


def test_a_change_in_a_part_is_one_of_the_checkpoint(tmp_path):
    """Watching, an event inside the directory of shards leads to the checkpoint around it."""
    for name in ("checkpoint-7", "state"):
        path = tmp_path / name
        zero_2(path / "global_step7")
        (path / "latest").write_text("global_step7")
        (path / "pytorch_model_fsdp_0").mkdir()
    (tmp_path / "state" / "random_states_0.pkl").write_bytes(b"")
    candidates = Candidates(pytest.fail)

    for name in ("checkpoint-7", "state"):
        for part in ("global_step7", "pytorch_model_fsdp_0"):
            changed = frozenset({tmp_path / name / part})
            found = candidates.found(Arrived(changed, frozenset(), rescan=False), [tmp_path])
            assert [one.path for one in found] == [tmp_path / name]


def test_a_latest_inside_the_trainers_checkpoint_must_be_right(tmp_path):
    path = tmp_path / "checkpoint-7"
    zero_2(path / "global_step7")
    (path / "latest").write_text("global_step9")
    (path / "trainer_state.json").write_text('{"global_step": 7, "log_history": []}')

    found = open_checkpoint(path)

    assert [(fault.rule, fault.member) for fault in found.faults] == [("missing-shard", "latest")]
    assert found.optimizer is not None


def test_ungathered_weights_of_stage_3_have_no_values(tmp_path):
    """Placeholders of shape [0] without the partitions that hold the values."""
    path = tmp_path / "global_step7"
    path.mkdir()
    module = {"q.lora_B.weight": torch.zeros(0), "head.weight": torch.zeros(0)}
    shapes = [{name: torch.Size([2, 2]) for name in module}]
    model = {"module": module, "param_shapes": shapes, "dp_world_size": 1, "global_steps": 7}
    torch.save(model, path / "zero_pp_rank_0_mp_rank_00_model_states.pt")

    found = open_checkpoint(path)

    assert {one.name: one.shape for one in found.tensors} == dict.fromkeys(module, (0,))
