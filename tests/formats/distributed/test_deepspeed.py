"""Saves of DeepSpeed's ZeRO, written by it on two processes, as its own converter reads them."""

from __future__ import annotations

import math
import shutil
from collections import Counter

import pytest

from sentinel.formats.opening import discover, open_checkpoint, stat_members
from sentinel.stats.measure import measure

pytestmark = [pytest.mark.trainer, pytest.mark.slow]

torch = pytest.importorskip("torch")
pytest.importorskip("deepspeed")


@pytest.fixture(scope="module", params=[1, 2, 3])
def saved(request, tmp_path_factory, run_ranks):
    """Two saves of a training of two processes, a stage at a time."""
    root = tmp_path_factory.mktemp("zero")
    run_ranks(root, "deepspeed_zero.py", root / "out", request.param)
    return root / "out", request.param


def master(root, tag="global_step2"):
    from deepspeed.utils.zero_to_fp32 import (  # noqa: PLC0415
        get_fp32_state_dict_from_zero_checkpoint,
    )

    return get_fp32_state_dict_from_zero_checkpoint(str(root), tag)


def test_its_weights_are_what_its_converter_makes(saved, assert_equal):
    """Stage 3 bit by bit; below it the model's own 16 bits are the master weights rounded."""
    root, stage = saved
    found = open_checkpoint(root / "global_step2")
    expected = master(root)

    assert (found.layout, found.step, found.complete) == ("deepspeed", 2, True)
    assert found.faults == ()
    assert found.settings["deepspeed.stage"] == stage
    assert found.settings["precision.mixed"] == "bf16"
    assert found.settings["precision.master"] == "fp32"
    frozen = {"base_layer.weight", "base_layer.bias"}
    if stage == 1:
        # Its converter leaves them out there.
        model = torch.load(root / "global_step2" / "mp_rank_00_model_states.pt", weights_only=False)
        expected |= {name: model["module"][name] for name in frozen}
    for one in found.tensors:
        is_half = one.name in frozen or (stage < 3 and one.name != "seen")
        assert one.dtype == ("BF16" if is_half else "F32"), one.name
    halves = {
        name: one.bfloat16() if name in frozen or (stage < 3 and name != "seen") else one
        for name, one in expected.items()
    }
    assert_equal(found, halves)
    roles = Counter(one.role for one in found.tensors)
    assert (roles["lora_up"], roles["lora_down"], roles["base"]) == (1, 1, 2)


def test_its_optimizer_is_put_together_by_parameter(saved):
    root, _ = saved
    found = open_checkpoint(root / "global_step2")
    assert found.optimizer is not None
    assert [group.parameter_count for group in found.optimizer.groups] == [3, 1]
    assert [group.settings["weight_decay"] for group in found.optimizer.groups] == [0.1, 0.0]
    kept = {one.name: one for one in found.optimizer.parameters}
    assert kept["head.bias"].group == 1

    rows = {row["tensor"]: row for row in measure(found, digest=False).optimizer.to_pylist()}

    assert {name: row["numel"] for name, row in rows.items()} == {
        "lora_A.default.weight": 18, "lora_B.default.weight": 15, "head.weight": 15, "head.bias": 3,
    }  # fmt: skip
    assert {row["step"] for row in rows.values()} == {2.0}
    assert {row["nan_count"] for row in rows.values()} == {0}


def test_its_master_weights_are_those_of_the_converter(saved, assert_equal):
    """The same places as the moments', so that these are those of their parameter too."""
    from dataclasses import replace  # noqa: PLC0415

    root, _ = saved
    found = open_checkpoint(root / "global_step2")
    masters = {one.name: one.tensors["master"] for one in found.optimizer.parameters}
    named = tuple(replace(tensor, name=name) for name, tensor in masters.items())

    trained = {name: one for name, one in master(root).items() if name in masters}
    assert_equal(replace(found, tensors=named), trained)


def test_saves_are_found_in_order_and_nothing_else(saved):
    root, _ = saved
    found = list(discover(root))
    assert [(one.layout, one.step) for one in found] == [("deepspeed", 1), ("deepspeed", 2)]
    assert found[0].group == found[1].group
    for one in found:
        checkpoint = open_checkpoint(one.path)
        assert checkpoint.complete is True
        seen = {member.path for member in stat_members(one.path, one.layout)}
        assert seen == {member.path for member in checkpoint.members}


def test_a_process_without_its_file_is_a_missing_shard(saved, tmp_path):
    root, stage = saved
    path = shutil.copytree(root / "global_step2", tmp_path / "global_step2")
    (path / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()

    found = open_checkpoint(path)

    (fault,) = found.faults
    assert fault.rule == "missing-shard"
    assert fault.part == ("weights" if stage == 3 else "optimizer")
    assert "pp_rank_1" in fault.message
    assert found.optimizer is None


def test_a_torn_file_is_truncated(saved, tmp_path):
    root, _ = saved
    path = shutil.copytree(root / "global_step2", tmp_path / "global_step2")
    file = path / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    file.write_bytes(file.read_bytes()[:-100])
    assert [fault.rule for fault in open_checkpoint(path).faults] == ["truncated-file"]


def test_a_nan_in_one_process_is_the_parameters(saved, tmp_path):
    root, stage = saved
    path = shutil.copytree(root / "global_step2", tmp_path / "global_step2")
    file = path / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    tree = torch.load(file, weights_only=False)
    inner = tree["optimizer_state_dict"]
    state = inner["optimizer_state_dict" if stage == 3 else "base_optimizer_state"]["state"]
    state[0]["exp_avg"][0] = math.nan
    torch.save(tree, file)

    rows = measure(open_checkpoint(path), digest=False).optimizer.to_pylist()

    assert sum(row["nan_count"] for row in rows) == 1


def test_it_is_a_part_of_a_checkpoint_of_the_trainer(saved, tmp_path):
    """With an adapter beside it, whose weights count; `trainer_state.json` is the mark."""
    root, _ = saved
    path = tmp_path / "checkpoint-2"
    shutil.copytree(root, path)
    shutil.rmtree(path / "global_step1")
    (path / "trainer_state.json").write_text('{"global_step": 2, "log_history": []}')

    found = open_checkpoint(path)

    assert [one.path for one in discover(tmp_path)] == [path]
    assert (found.layout, found.complete, found.faults) == ("transformers-trainer", True, ())
    assert found.optimizer is not None
    assert found.settings["versions.deepspeed"]
    assert {"head.weight", "seen"} <= {one.name for one in found.tensors}
