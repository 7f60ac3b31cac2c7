"""The layouts of the trainers: by diffusers and accelerate where they write, else by known facts.

OneTrainer, SimpleTuner, sd-scripts and ai-toolkit are no packages: their files are laid out here
as their savers do, tensors by the official safetensors writer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.checkpoint import Checkpoint
from sentinel.formats.opening import (
    candidate_at,
    discover,
    is_complete,
    open_checkpoint,
    stat_members,
)
from sentinel.stats.measure import measure

KEY = "transformer.blocks.0.attn.to_q"
BACKUP = "2026-08-19_10-20-30-backup-300-2-40"
PROGRESS = {"train_progress": {"epoch": 2, "epoch_step": 40, "epoch_sample": 1, "global_step": 300}}
ARGUMENTS = {
    "__version": 11,
    "base_model_name": "/models/flux",
    "training_method": "LORA",
    "peft_type": "LORA",
    "lora_rank": 2,
    "lora_alpha": 1.0,
    "lora_decompose": True,
    "lora_weight_dtype": "FLOAT_16",
    "train_dtype": "BFLOAT_16",
    "output_dtype": "FLOAT_32",
    "transformer": {"weight_dtype": "NFLOAT_4", "train": True},
    "learning_rate": 3e-4,
    "learning_rate_scheduler": "CONSTANT",
    "learning_rate_warmup_steps": 100.0,
    "gradient_accumulation_steps": 2,
    "optimizer": {"optimizer": "ADAFACTOR", "scale_parameter": True, "relative_step": False},
    "concepts": None,
}


def lora(key: str = KEY, *, peft: bool = False, alpha: bool = True) -> dict[str, np.ndarray]:
    down, up = ("lora_A", "lora_B") if peft else ("lora_down", "lora_up")
    tensors = {
        f"{key}.{down}.weight": np.ones((2, 6), "f2"),
        f"{key}.{up}.weight": np.zeros((4, 2), "f2"),
    }
    return {**tensors, f"{key}.alpha": np.array(1.0, "f2")} if alpha else tensors


def faults(checkpoint: Checkpoint) -> list[tuple[str, str, str]]:
    return [(fault.rule, fault.part, fault.member) for fault in checkpoint.faults]


@pytest.fixture
def backup(write, touch) -> Path:
    root = write.tensors(f"ws/backup/{BACKUP}/lora/lora.safetensors", lora()).parent.parent
    touch(root, "ema/ema.pt", "embeddings/1f.safetensors")
    write.json(f"ws/backup/{BACKUP}/meta.json", PROGRESS)
    write.json(f"ws/backup/{BACKUP}/onetrainer_config/args.json", ARGUMENTS)
    write.json(f"ws/backup/{BACKUP}/onetrainer_config/concepts.json", [])
    return root


def test_a_onetrainer_backup(write, backup: Path) -> None:
    """One checkpoint, whole, with its settings; nothing inside it is another one."""
    [candidate] = discover(write.root)
    found = open_checkpoint(backup)

    assert (candidate.path, candidate.layout, candidate.step) == (backup, "onetrainer-backup", 300)
    assert (found.trainer, found.step, found.epoch) == ("onetrainer", 300, 2.0)
    assert (found.complete, found.faults) == (True, ())
    assert found.updates_done == (300 - 100) // 2
    assert {member.path: member.part for member in found.members} == {
        "lora/lora.safetensors": "weights",
        "embeddings/1f.safetensors": "state",
        "ema/ema.pt": "state",
        "meta.json": "state",
        "onetrainer_config/args.json": "state",
    }
    expected = {
        "precision.adapter": "fp16",
        "precision.mixed": "bf16",
        "adapter.method": "dora",
        "adapter.rank": 2,
        "base.path": "/models/flux",
        "base.quantization": "nf4",
        "optimizer.name": "adafactor",
        "optimizer.args.scale_parameter": True,
        "optimizer.args.relative_step": False,
        "optimizer.learning_rate": 3e-4,
        "scheduler.name": "constant",
    }
    assert expected.items() <= found.settings.items()


@pytest.mark.parametrize("gone", ["meta.json", "onetrainer_config/args.json"])
def test_a_backup_without_its_last_files_is_not_complete(backup: Path, gone: str) -> None:
    (backup / gone).unlink()

    found = open_checkpoint(backup)

    assert (found.layout, found.complete, found.step) == ("onetrainer-backup", False, 300)
    assert is_complete(candidate_at(backup)) is False
    assert faults(found) == [("missing-shard", "state", gone)]


def test_a_backup_without_its_adapter_is_a_fault(backup: Path) -> None:
    (backup / "lora/lora.safetensors").unlink()

    assert faults(open_checkpoint(backup)) == [("missing-shard", "weights", "")]


def test_a_onetrainer_save(write) -> None:
    """The file's dtype is the output's, so only the configuration tells the training's."""
    path = write.tensors(
        "ws/save/cat-2026-08-19_10-20-30-save-300-2-40.safetensors",
        lora("lora_transformer_x", alpha=True),
        {"ot_revision": "abc", "ot_config": json.dumps({**ARGUMENTS, "lora_weight_dtype": "x"})},
    )

    found = open_checkpoint(path)

    assert (found.layout, found.trainer, found.step) == ("onetrainer-save", "onetrainer", 300)
    assert found.settings["optimizer.name"] == "adafactor"
    assert "precision.adapter" not in found.settings
    assert candidate_at(path).group == str(path.parent / "cat-save")


@pytest.fixture
def simpletuner(write, touch) -> Path:
    metadata = {
        "format": "pt",
        "global_step": "500",
        "lora_adapter_metadata": json.dumps(
            {"transformer.r": 2, "transformer.lora_alpha": 4, "transformer.use_dora": False}
        ),
    }
    tensors = lora(peft=True, alpha=False)
    name = "out/checkpoint-500/pytorch_lora_weights.safetensors"
    path = write.tensors(name, tensors, metadata).parent
    write.json("out/checkpoint-500/training_state.json", {"global_step": 500, "epoch": 3})
    write.json("out/checkpoint-500/training_state-default.json", {})
    write.json("out/checkpoint-500/checkpoint_manifest.json", {})
    touch(path, "scheduler.bin", "sampler.bin", "random_states_0.pkl")
    (path / ".guard").write_bytes(b"complete\n")
    return path


def test_simpletuner(write, simpletuner: Path) -> None:
    [candidate] = discover(write.root)
    found = open_checkpoint(simpletuner)

    assert (candidate.layout, found.trainer) == ("simpletuner", "simpletuner")
    assert (found.step, found.epoch, found.complete, found.faults) == (500, 3.0, True, ())
    assert found.settings["precision.adapter"] == "fp16"
    assert (found.adapter.rank, found.adapter.alpha) == (2, 4.0)
    [row] = measure(found, digest=False).pairs.to_pylist()
    assert (row["module"], row["alpha"], row["scale"]) == (KEY, 4.0, 2.0)


def test_simpletuners_guard_decides(simpletuner: Path, touch) -> None:
    """Without it only an older version's checkpoint can be whole, and nothing in it says so."""
    (simpletuner / ".guard").write_bytes(b"writing\n")
    assert open_checkpoint(simpletuner).complete is False
    (simpletuner / ".guard").unlink()
    assert open_checkpoint(simpletuner).complete is None
    (simpletuner / "checkpoint_manifest.json").unlink()
    assert open_checkpoint(simpletuner).complete is None

    touch(simpletuner, "ramtorch_prefetch_orders.json")
    assert open_checkpoint(simpletuner).complete is False
    (simpletuner / "ramtorch_prefetch_orders.json").unlink()
    (simpletuner / "random_states_0.pkl").unlink()
    assert open_checkpoint(simpletuner).complete is False


def test_a_rolling_checkpoint_of_simpletuner_has_its_step(simpletuner: Path) -> None:
    path = simpletuner.rename(simpletuner.with_name("checkpoint-500-rolling"))

    assert candidate_at(path).step == 500


def test_lycoris_in_simpletuner(write, simpletuner: Path) -> None:
    tensors = {
        "lycoris_x.lokr_w1": np.zeros((2, 2), "f4"),
        "lycoris_x.lokr_w2": np.ones((3, 3), "f4"),
        "lycoris_x.alpha": np.array(4.0, "f4"),
    }
    write.tensors("out/checkpoint-500/pytorch_lora_weights.safetensors", tensors)
    write.json("out/checkpoint-500/lycoris_config.json", {"algo": "lokr", "use_scalar": True})

    found = open_checkpoint(simpletuner)

    assert found.adapter.family == "lokr"
    assert [tensor.name for tensor in found.tensors if tensor.zero_at_init] == ["lycoris_x.lokr_w1"]


@pytest.mark.parametrize("hidden", ["checkpoint-9-tmp", "tmp-checkpoint-9", ".checkpoint-9"])
def test_what_is_being_written_is_no_checkpoint(write, hidden: str) -> None:
    write.tensors(f"out/{hidden}/pytorch_lora_weights.safetensors", lora(peft=True))

    assert list(discover(write.root)) == []


def test_a_diffusers_script(write, touch) -> None:
    """The steps and the last save, one run in order; the random states mark the end."""
    for step in (5, 10):
        name = f"out/checkpoint-{step}/pytorch_lora_weights.safetensors"
        path = write.tensors(name, lora(peft=True, alpha=False)).parent
        touch(path, "scheduler.bin", "random_states_0.pkl")
    last = write.tensors("out/pytorch_lora_weights.safetensors", lora(peft=True, alpha=False))
    (path / "random_states_0.pkl").unlink()

    found = list(discover(write.root))

    assert [one.step for one in found] == [5, 10, None]
    assert {one.layout for one in found} == {"diffusers-lora"}
    assert [is_complete(one) for one in found] == [True, False, None]
    assert len({one.group for one in found}) == 1
    assert open_checkpoint(last).tensors == open_checkpoint(last.parent).tensors


def test_the_shared_optimizer_is_no_part_of_ai_toolkits_saves(write, touch) -> None:
    info = {"training_info": json.dumps({"step": 750, "epoch": 3}), "software": "{}"}
    path = write.tensors("run/cat/cat_000000750.safetensors", lora(peft=True, alpha=False), info)
    touch(path.parent, "optimizer.pt")

    found = open_checkpoint(path)

    assert (found.layout, found.trainer, found.step, found.epoch) == (
        "ai-toolkit",
        "ai-toolkit",
        750,
        3.0,
    )
    assert [member.path for member in found.members] == [path.name]
    assert found.settings["precision.adapter"] == "fp32"


def test_an_sd_scripts_state_has_its_own_history(write, touch) -> None:
    """It holds the same weights as the file beside it: those are no two steps of one run."""
    name = "out/cat-step00000300-state"
    path = write.tensors(f"{name}/model.safetensors", lora("lora_unet_x")).parent
    write.json(f"{name}/train_state.json", {"current_epoch": 2, "current_step": 300})
    touch(path, "scheduler.bin", "random_states_0.pkl")
    write.kohya("out/cat-step00000300.safetensors", ss_steps="300")

    candidates = {one.layout: one for one in discover(write.root)}
    found = open_checkpoint(path)

    assert {one.step for one in candidates.values()} == {300}
    assert candidates["sd-scripts-state"].group != candidates["kohya"].group
    assert (found.step, found.epoch, found.complete, found.faults) == (300, 2.0, True, ())
    assert {tensor.role for tensor in found.tensors} == {"lora_up", "lora_down", "alpha"}


@pytest.mark.parametrize(
    ("marks", "trainer"),
    [
        ({"run/checkpoint-5/tokens_state.json": {}}, "axolotl"),
        ({"run/trainer_log.jsonl": {}}, "llama-factory"),
        ({"run/checkpoint-5/args.json": {"torch_dtype": "bfloat16"}}, "ms-swift"),
        ({"run/checkpoint-5/additional_config.json": {"lora_dtype": None}}, "ms-swift"),
        ({}, "transformers"),
    ],
)
def test_relatives_of_the_trainer_are_told_by_their_files(
    write, marks: dict[str, dict[str, Any]], trainer: str
) -> None:
    path = write.trainer("run/checkpoint-5")
    for name, content in marks.items():
        write.json(name, content)

    found = open_checkpoint(path)

    assert (found.layout, found.trainer) == ("transformers-trainer", trainer)
    assert found.settings.get("base.compute_dtype") == ("bf16" if "torch" in str(marks) else None)


def test_minicpm_is_told_by_what_it_saves_whole(write) -> None:
    path = write.trainer("run/checkpoint-5")
    config = {"peft_type": "LORA", "r": 2, "modules_to_save": ["embed_tokens", "resampler"]}
    write.json("run/checkpoint-5/adapter_config.json", config)
    write.tensors(
        "run/checkpoint-5/adapter_model.safetensors",
        {
            "base_model.model.resampler.proj": np.ones((2, 2), "f2"),
            "base_model.model.llm.model.embed_tokens.weight": np.ones((2, 2), "f2"),
        },
    )

    found = open_checkpoint(path)

    assert found.trainer == "minicpm-v"
    assert {tensor.role for tensor in found.tensors} == {"modules_to_save"}


@pytest.mark.parametrize("fixture", ["backup", "simpletuner"])
def test_looking_again_finds_the_same_members(fixture: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(fixture)
    found = open_checkpoint(path)

    again = stat_members(path, found.layout)

    assert {one.path for one in again} == {one.path for one in found.members}


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(leaves, lambda one: st.dictionaries(st.text(max_size=9), one), max_leaves=5)
SMALL_FILES = {
    f"{BACKUP}/meta.json": ["train_progress"],
    f"{BACKUP}/onetrainer_config/args.json": [*ARGUMENTS],
    "checkpoint-5/training_state.json": ["global_step", "epoch"],
    "checkpoint-5/lycoris_config.json": ["algo", "linear_dim", "use_scalar"],
    "x-state/train_state.json": ["current_step", "current_epoch"],
}


@pytest.mark.parametrize("name", SMALL_FILES)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_no_small_file_raises(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Any JSON, and any torn JSON: a checkpoint with its faults, never an exception."""
    file = tmp_path_factory.getbasetemp() / "small" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(data.draw(st.dictionaries(st.sampled_from(SMALL_FILES[name]), values)))
    file.write_text(content[: data.draw(st.none() | st.integers(0, len(content)))])

    found = open_checkpoint(tmp_path_factory.getbasetemp() / "small" / name.partition("/")[0])

    assert found.faults


@pytest.mark.trainer
def test_diffusers_own_metadata(tmp_path: Path) -> None:
    """Rank, alpha and initialisation come from the file alone, as diffusers writes it."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    loaders = pytest.importorskip("diffusers.loaders.lora_pipeline")
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=["to_q"], use_rslora=False)
    model = torch.nn.ModuleDict({"to_q": torch.nn.Linear(6, 4)})
    peft.inject_adapter_in_model(config, model)
    layers = peft.get_peft_model_state_dict(model)
    loaders.FluxLoraLoaderMixin.save_lora_weights(
        tmp_path / "out",
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=config.to_dict(),
    )

    [candidate] = discover(tmp_path)
    found = open_checkpoint(candidate.path)

    assert (candidate.layout, found.faults) == ("diffusers-lora", ())
    assert (found.adapter.rank, found.adapter.alpha, found.adapter.init) == (2, 6.0, "default")
    [row] = measure(found, digest=False).pairs.to_pylist()
    assert (row["module"], row["scale"]) == ("transformer.to_q", 3.0)
    assert row["zero_side"].endswith("lora_B.weight")


@pytest.mark.trainer
def test_accelerates_save_state(tmp_path: Path) -> None:
    """A whole state: the model's tensors, its optimizer, the random states as completion mark."""
    torch = pytest.importorskip("torch")
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(4, 4)
    prepared = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    prepared[0](torch.ones(1, 4)).sum().backward()
    prepared[1].step()
    accelerator.save_state(str(tmp_path / "step_7"))

    [candidate] = discover(tmp_path)
    found = open_checkpoint(candidate.path)

    assert (candidate.layout, candidate.step) == ("accelerate-state", 7)
    assert (found.trainer, found.complete, found.faults) == ("accelerate", True, ())
    assert {tensor.name for tensor in found.tensors} == {"weight", "bias"}
    assert {member.part for member in found.members} >= {"weights", "optimizer", "state"}
    (candidate.path / "random_states_0.pkl").unlink()
    assert is_complete(candidate_at(candidate.path)) is False
