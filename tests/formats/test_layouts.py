"""Each layout: what it reads, its completion mark, and how its faulty twins end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint
from sentinel.errors import ConfigError
from sentinel.formats.opening import (
    candidate_at,
    discover,
    is_complete,
    is_whole,
    open_checkpoint,
    stat_members,
)

LORA = "base_model.model.model.layers.0.self_attn.q_proj"


def faults(checkpoint: Checkpoint) -> list[tuple[str, str, str]]:
    return [(fault.rule, fault.part, fault.member) for fault in checkpoint.faults]


def manifest(path: Path, **changes: object) -> dict:
    """A manifest of the bundled trainer for the files that lie in ``path``."""
    return {
        "schema": 1,
        "trainer": "sentinel-train",
        "step": 30,
        "epoch": 1.5,
        "updates_done": 29,
        "recipe": {"training": {"steps": 60}},
        "base": {"path": "/models/tiny", "quantization": "nf4", "compute_dtype": "fp32"},
        "adapter": {"method": "lora", "dtype": "fp16", "rank": 2, "alpha": 4},
        "optimizer": {"name": "prodigy-plus", "learning_rate": 1.0, "args": {"d0": 1e-6}},
        "versions": {"peft": "0.21.2", "cuda": None},
        "device": {"type": "cpu", "name": "x", "bf16": False, "capability": None},
        "resumed_from": None,
        "files": {one.name: {"size_bytes": one.stat().st_size} for one in path.iterdir()},
        **changes,
    }


@pytest.fixture
def trained(write) -> Path:
    path = write.trainer("run/checkpoint-30")
    write.json("run/checkpoint-30/sentinel_manifest.json", manifest(path))
    return path


def rewrite_manifest(path: Path, **changes: object) -> None:
    name = path / "sentinel_manifest.json"
    name.write_text(json.dumps({**json.loads(name.read_text()), **changes}))


def test_sentinel_train(trained: Path) -> None:
    """The manifest tells step, updates and settings; every file it names is a member."""
    found = open_checkpoint(trained)

    assert (found.layout, found.trainer, found.complete) == (
        "sentinel-train",
        "sentinel-train",
        True,
    )
    assert (found.step, found.epoch, found.updates_done) == (30, 1.5, 29)
    assert found.faults == ()
    assert {member.path: member.part for member in found.members} == {
        "adapter_model.safetensors": "weights",
        "adapter_config.json": "weights",
        "optimizer.pt": "optimizer",
        "scheduler.pt": "state",
        "rng_state.pth": "state",
        "training_args.bin": "state",
        "trainer_state.json": "state",
        "sentinel_manifest.json": "state",
    }
    expected = {
        "precision.adapter": "fp16",
        "base.path": "/models/tiny",
        "base.quantization": "nf4",
        "base.compute_dtype": "fp32",
        "optimizer.name": "prodigy-plus",
        "optimizer.learning_rate": 1.0,
        "versions.peft": "0.21.2",
        "device.type": "cpu",
        "device.bf16": False,
        "recipe.training.steps": 60,
    }
    assert expected.items() <= found.settings.items()
    assert "resumed_from.path" not in found.settings


def test_where_it_resumed_from_is_a_setting(trained: Path) -> None:
    rewrite_manifest(trained, resumed_from={"path": "/runs/a/checkpoint-10", "step": 10})

    found = open_checkpoint(trained).settings

    assert found["resumed_from.path"] == "/runs/a/checkpoint-10"
    assert found["resumed_from.step"] == 10


def test_a_file_not_as_the_manifest_says_is_a_fault(trained: Path) -> None:
    (trained / "scheduler.pt").unlink()
    os.truncate(trained / "optimizer.pt", 3)
    (trained / "rng_state.pth").write_bytes(bytes(9999))

    found = open_checkpoint(trained)

    assert sorted(faults(found)) == [
        ("malformed-file", "state", "rng_state.pth"),
        ("missing-shard", "state", "scheduler.pt"),
        ("truncated-file", "optimizer", "optimizer.pt"),
    ]
    assert len(found.tensors) == 2


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a\\b", "", "a//b", "c:x"])
def test_a_manifest_cannot_reach_outside(trained: Path, name: str) -> None:
    rewrite_manifest(trained, files={name: {"size_bytes": 1}})

    found = open_checkpoint(trained)

    assert faults(found) == [("malformed-file", "state", "sentinel_manifest.json")]
    assert name not in [member.path for member in found.members]


def test_a_newer_manifest_is_no_healthy_one(trained: Path) -> None:
    rewrite_manifest(trained, schema=2)

    assert faults(open_checkpoint(trained)) == [
        ("malformed-file", "state", "sentinel_manifest.json")
    ]


def test_transformers_trainer(write) -> None:
    """Step, log and precision from the Trainer's own files; pickles are looked at, not opened."""
    history = [{"step": at, "learning_rate": 0.1, "loss": 2.0, "grad_norm": 1.0} for at in (1, 2)]
    path = write.trainer("run/checkpoint-9", global_step=7, epoch=0.5, log_history=history)

    found = open_checkpoint(path)

    assert (found.layout, found.trainer, found.complete) == (
        "transformers-trainer",
        "transformers",
        True,
    )
    assert (found.step, found.epoch, found.updates_done) == (7, 0.5, 6)
    assert found.settings["precision.adapter"] == "fp32"
    assert found.settings["adapter.init"] == "default"
    assert (found.adapter.rank, found.adapter.alpha) == (2, 4.0)
    assert len(found.metrics) == 6
    assert {member.part for member in found.members} == {"weights", "optimizer", "state"}
    assert found.faults == ()
    assert [tensor.role for tensor in found.tensors] == ["lora_down", "lora_up"]
    assert found.tensors[0].module == "model.layers.0.self_attn.q_proj"


def test_bare_nan_in_the_trainers_log_is_read(write) -> None:
    path = write.trainer("checkpoint-5", log_history=[{"step": 1, "grad_norm": float("nan")}])

    found = open_checkpoint(path)

    assert "NaN" in (path / "trainer_state.json").read_text()
    assert found.complete
    assert found.metrics[0].name == "grad_norm"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "truncated-file"),
        (b'{"global_step": 5, "log', "truncated-file"),
        (b"[]", "malformed-file"),
    ],
)
def test_a_torn_trainer_state_is_no_completion_mark(write, content: bytes, rule: str) -> None:
    path = write.trainer("checkpoint-5")
    (path / "trainer_state.json").write_bytes(content)

    found = open_checkpoint(path)

    assert found.complete is False
    assert is_complete(candidate_at(path)) is False
    assert faults(found) == [(rule, "state", "trainer_state.json")]
    assert (found.step, found.updates_done) == (5, None)


def test_an_empty_checkpoint_directory_is_seen(write) -> None:
    """The Trainer would resume from it: it has the highest number."""
    (write.root / "checkpoint-12").mkdir()

    [candidate] = discover(write.root)
    found = open_checkpoint(candidate.path)

    assert (candidate.step, found.complete) == (12, False)
    assert ("missing-shard", "weights", "") in faults(found)


def test_peft(write) -> None:
    path = write.peft("out", use_dora=True, init_lora_weights="pissa", peft_version="0.21.2")

    found = open_checkpoint(path)

    assert (found.layout, found.trainer, found.complete, found.step) == ("peft", None, True, None)
    assert found.settings["adapter.method"] == "dora"
    assert found.settings["versions.peft"] == "0.21.2"
    assert not any(tensor.zero_at_init for tensor in found.tensors)


def test_an_adapter_without_description_is_not_complete(write) -> None:
    path = write.peft("out")
    (path / "adapter_config.json").unlink()

    found = open_checkpoint(path)

    assert found.complete is False
    assert faults(found) == [("missing-shard", "weights", "adapter_config.json")]
    assert len(found.tensors) == 2


def test_a_pickled_adapter_is_never_healthy(write) -> None:
    path = write.json("out/adapter_config.json", {"peft_type": "LORA"}).parent
    (path / "adapter_model.bin").write_bytes(b"\x80\x02")

    found = open_checkpoint(path)

    assert faults(found) == [("truncated-file", "weights", "adapter_model.bin")]
    assert {member.path for member in found.members} == {
        "adapter_model.bin",
        "adapter_config.json",
    }


def test_a_pickle_beside_the_same_weights_as_safetensors_is_no_fault(write) -> None:
    path = write.trainer("checkpoint-5")
    (path / "adapter_model.bin").write_bytes(b"\x80\x02")

    assert open_checkpoint(path).faults == ()


def test_a_description_without_weights_is_a_fault(write) -> None:
    path = write.json("out/adapter_config.json", {"peft_type": "LORA"}).parent

    assert faults(open_checkpoint(path)) == [("missing-shard", "weights", "")]


def test_kohya(write) -> None:
    path = write.kohya(
        "cat-step00000300.safetensors",
        ss_steps="300",
        ss_lr_warmup_steps="100",
        ss_epoch="2",
        ss_network_dim="2",
        ss_mixed_precision="fp16",
        ss_full_fp16="True",
        ss_optimizer="AdamW(weight_decay=0.1)",
        ss_learning_rate="0.0001",
        ss_unet_lr="None",
        ss_network_module="networks.lora",
    )

    found = open_checkpoint(path)

    assert (found.layout, found.trainer, found.complete) == ("kohya", "sd-scripts", None)
    assert (found.step, found.epoch, found.updates_done) == (300, 2.0, 200)
    assert found.root == path.parent
    assert found.settings == {
        "precision.mixed": "fp16",
        "precision.training": "fp16",
        "precision.full_fp16": True,
        "precision.adapter": "fp16",
        "adapter.method": "lora",
        "adapter.network_module": "networks.lora",
        "adapter.rank": 2.0,
        "optimizer.name": "adamw",
        "optimizer.weight_decay": 0.1,
        "scheduler.warmup_steps": 100,
        "optimizer.learning_rate": 0.0001,
    }
    assert {tensor.role for tensor in found.tensors} == {"lora_up", "lora_down", "alpha"}


@pytest.mark.parametrize(
    ("name", "metadata", "step", "updates"),
    [
        ("cat-step00000040.safetensors", {}, 40, None),
        ("cat-000003.safetensors", {}, 3, None),
        ("cat-000003.safetensors", {"ss_steps": "90"}, 90, None),
        ("cat.safetensors", {"ss_steps": "90", "ss_lr_warmup_steps": "90"}, 90, None),
        ("cat.safetensors", {"ss_steps": "90", "ss_lr_warmup_steps": "0"}, 90, 90),
        ("cat.safetensors", {"ss_steps": "9" * 40}, None, None),
        ("cat.safetensors", {"ss_steps": "-4"}, None, None),
    ],
)
def test_kohyas_step_and_updates(
    write, name: str, metadata: dict[str, str], step: int | None, updates: int | None
) -> None:
    found = open_checkpoint(write.kohya(name, **metadata))

    assert (found.step, found.updates_done) == (step, updates)


def test_any_other_tensors_are_an_unknown_layout(write) -> None:
    found = open_checkpoint(write.tensors("thing.safetensors"))

    assert (found.layout, found.complete, found.faults) == ("unknown", None, ())
    assert [tensor.role for tensor in found.tensors] == ["other"]


def model_shards(write, name: str = "model") -> Path:
    """A model in two shards with its index."""
    write.tensors(f"m/{name}-00001-of-00002.safetensors", {"a.weight": np.ones(3, "f4")})
    write.tensors(f"m/{name}-00002-of-00002.safetensors", {"b.weight": np.ones(3, "f4")})
    weight_map = {
        "a.weight": f"{name}-00001-of-00002.safetensors",
        "b.weight": f"{name}-00002-of-00002.safetensors",
    }
    write.json(f"m/{name}.safetensors.index.json", {"weight_map": weight_map})
    return write.json("m/config.json", {"model_type": "llama"}).parent


def test_a_sharded_model_is_one_checkpoint(write) -> None:
    path = model_shards(write)

    [candidate] = discover(write.root)
    found = open_checkpoint(path)

    assert candidate.layout == found.layout == "transformers-model"
    assert [tensor.name for tensor in found.tensors] == ["a.weight", "b.weight"]
    assert (found.complete, found.faults, is_whole(candidate)) == (True, (), True)


def test_a_missing_shard_is_a_fault(write) -> None:
    path = model_shards(write)
    (path / "model-00002-of-00002.safetensors").unlink()

    found = open_checkpoint(path)

    assert faults(found) == [("missing-shard", "weights", "model-00002-of-00002.safetensors")]
    assert len(found.tensors) == 1


@pytest.mark.parametrize(
    "weight_map",
    [
        None,
        {},
        {"a": "../x.safetensors"},
        {"a": 1},
        {"b.weight": "model-00001-of-00002.safetensors"},
    ],
)
def test_a_broken_index_is_a_fault(write, weight_map: object) -> None:
    path = model_shards(write)
    write.json("m/model.safetensors.index.json", {"weight_map": weight_map})

    assert faults(open_checkpoint(path)) == [
        ("malformed-file", "weights", "model.safetensors.index.json")
    ]


def test_shards_before_their_index_are_not_complete(write) -> None:
    path = model_shards(write)
    (path / "model.safetensors.index.json").unlink()
    (path / "model-00002-of-00002.safetensors").unlink()

    found = open_checkpoint(path)

    assert found.complete is False
    assert faults(found) == [("missing-shard", "weights", "model-00002-of-00002.safetensors")]


def test_loose_shards_are_one_checkpoint(write) -> None:
    """Without index and description: the set by its names, seen once."""
    for number in (1, 3):
        write.tensors(f"x-0000{number}-of-00003.safetensors", {f"t{number}": np.ones(2, "f4")})

    [candidate] = discover(write.root)
    found = open_checkpoint(candidate.path)

    assert found.layout == "unknown"
    assert [tensor.name for tensor in found.tensors] == ["t1", "t3"]
    assert faults(found) == [("missing-shard", "weights", "x-00002-of-00003.safetensors")]
    assert found.root == write.root


def test_two_shards_with_the_same_tensor_do_not_belong_together(write) -> None:
    for number in (1, 2):
        write.tensors(f"x-0000{number}-of-00002.safetensors", {"same": np.ones(number, "f4")})

    found = open_checkpoint(write.root / "x-00001-of-00002.safetensors")

    assert faults(found) == [("malformed-file", "weights", "x-00002-of-00002.safetensors")]
    assert len(found.tensors) == 1


def test_a_truncated_member_is_told_once(write) -> None:
    path = write.trainer("checkpoint-5")
    weights = path / "adapter_model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)

    found = open_checkpoint(path)

    assert faults(found) == [("truncated-file", "weights", "adapter_model.safetensors")]
    assert found.tensors == ()
    assert not is_whole(candidate_at(path))


def test_what_may_not_be_read_is_said(
    write, open_root: Path, forbid: Callable[[Path], object]
) -> None:
    write.root = open_root
    path = write.peft("out")

    with forbid(path / "adapter_model.safetensors"):
        found = open_checkpoint(path)

    assert faults(found) == [("unreadable-file", "weights", "adapter_model.safetensors")]


def test_a_directory_that_cannot_be_listed_is_unreadable(
    open_root: Path, forbid: Callable[[Path], object]
) -> None:
    (open_root / "locked").mkdir()

    with forbid(open_root / "locked"):
        [candidate] = discover(open_root)
        found = open_checkpoint(candidate.path)

    assert (found.layout, faults(found)) == ("unknown", [("unreadable-file", "weights", "")])


def test_a_directory_without_anything_known_is_never_healthy(tmp_path: Path) -> None:
    assert faults(open_checkpoint(tmp_path)) == [("missing-shard", "weights", "")]


@pytest.mark.parametrize("name", ["notes.txt", "model.ckpt", "zero.safetensors"])
def test_a_file_that_is_no_safetensors_is_never_healthy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("zero") else b"certainly not")

    found = open_checkpoint(tmp_path / name)

    assert found.layout == "unknown"
    assert [fault.part for fault in found.faults] == ["weights"]


def test_a_path_that_does_not_exist_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_checkpoint(tmp_path / "none")


def test_a_link_to_nothing_is_a_fault_of_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").symlink_to(tmp_path / "gone")

    found = open_checkpoint(tmp_path / "x.safetensors")

    assert faults(found) == [("missing-shard", "weights", "x.safetensors")]


@pytest.mark.parametrize("kind", ["trainer", "peft", "kohya.safetensors", "plain.safetensors"])
def test_looking_again_finds_the_same_members(write, kind: str) -> None:
    """Cheap and equal: what settling compares is what opening saw."""
    make = {"trainer": write.trainer, "peft": write.peft, "kohya.safetensors": write.kohya}
    path = make.get(kind, write.tensors)(kind)
    found = open_checkpoint(path)

    again = stat_members(path, found.layout)

    assert sorted(again, key=lambda one: one.path) == sorted(
        found.members, key=lambda one: one.path
    )


json_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
json_values = st.recursive(
    json_leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
SMALL_FILES = {
    "adapter_config.json": [
        "peft_type",
        "r",
        "lora_alpha",
        "init_lora_weights",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "base_model_name_or_path",
        "use_dora",
    ],
    "trainer_state.json": ["global_step", "epoch", "log_history"],
    "sentinel_manifest.json": ["schema", "step", "epoch", "files", "base", "recipe", "trainer"],
}


@pytest.mark.parametrize("name", sorted(SMALL_FILES))
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_small_file_raises(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Any JSON, and any torn JSON, in any of the small files: a checkpoint, never an exception."""
    path = tmp_path_factory.getbasetemp() / "checkpoint-3"
    path.mkdir(exist_ok=True)
    for known in SMALL_FILES:
        (path / known).unlink(missing_ok=True)
    keys = st.sampled_from(SMALL_FILES[name])
    content = json.dumps(data.draw(st.dictionaries(keys, json_values)))
    end = data.draw(st.none() | st.integers(0, len(content)))
    (path / name).write_text(content[:end], encoding="utf-8")

    found = open_checkpoint(path)

    assert found.faults
