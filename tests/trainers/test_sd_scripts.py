"""sd-scripts and musubi-tuner: their files, laid out from the facts, are read as they were meant.

The facts come from whole trainings by the trainers' own code (`probes/`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from expecting import directories, filled, options_of, pairs_hold, tensors_hold
from laying import facts_of, lay

from sentinel.formats.opening import candidate_at, discover, is_complete, open_checkpoint

FACTS = {name: facts_of(name) for name in ("sd_scripts", "musubi_tuner")}
TRAINERS = {"sd_scripts": "sd-scripts", "musubi_tuner": "musubi-tuner"}
RUNS = [
    (name, run)
    for name, facts in FACTS.items()
    for run, what in facts["runs"].items()
    if "files" in what
]
SAVES = [
    (name, run, file)
    for name, run in RUNS
    for file in FACTS[name]["runs"][run]["files"]
    if file.endswith(".safetensors") and "/" not in file
]
DESCRIBED = [
    save for save in SAVES if "--no_metadata" not in FACTS[save[0]]["runs"][save[1]]["arguments"]
]
STATES = [
    (name, run, directory)
    for name, run in RUNS
    for directory in directories(FACTS[name]["runs"][run]["files"], "-state")
]


def zero_of(name: str, run: str) -> list[str] | None:
    """What was all zero at the start, None where the run went on with weights it was given."""
    what = FACTS[name]["runs"][run]
    given = {"--resume", "--network_weights"} & options_of(what["arguments"]).keys()
    return None if given else what["zero_at_start"]


def files_of(name: str, run: str) -> dict[str, Any]:
    return FACTS[name]["runs"][run]["files"]


@pytest.mark.parametrize(("name", "run", "file"), SAVES)
def test_a_save(tmp_path: Path, name: str, run: str, file: str) -> None:
    """Its tensors, their roles and zero sides, ranks and scales; step, epoch and trainer."""
    facts = files_of(name, run)[file]
    lay({file: facts}, tmp_path, filled)

    found = open_checkpoint(tmp_path / file)

    assert (found.layout, found.trainer, found.faults) == ("kohya", TRAINERS[name], ())
    assert found.complete is None
    tensors_hold(found, facts["tensors"], zero_of(name, run))
    pairs_hold(found, facts["tensors"])
    if "ss_steps" in facts["metadata"]:
        assert found.step == int(facts["metadata"]["ss_steps"])
        assert found.epoch == float(facts["metadata"]["ss_epoch"])


@pytest.mark.parametrize(("name", "run", "file"), DESCRIBED)
def test_a_saves_settings_are_what_the_command_asked_for(
    tmp_path: Path, name: str, run: str, file: str
) -> None:
    facts = files_of(name, run)[file]
    asked = options_of(FACTS[name]["runs"][run]["arguments"])
    lay({file: facts}, tmp_path)

    settings = open_checkpoint(tmp_path / file).settings

    optimizer = asked.get("--optimizer_type", "AdamW").lower()
    assert settings["optimizer.name"] == optimizer
    rate = float(asked.get("--learning_rate", 2e-6))
    assert settings["optimizer.learning_rate"] == rate
    assert settings["adapter.network_module"] == asked["--network_module"]
    assert settings.get("adapter.rank") == float(asked["--network_dim"])
    assert settings["adapter.alpha"] == float(asked["--network_alpha"])
    assert settings["base.path"] == asked.get("--pretrained_model_name_or_path", asked.get("--dit"))
    assert settings["base.quantization"] == ("fp8" if "--fp8_base" in asked else "none")
    assert settings["training.seed"] == 7
    assert settings["training.max_grad_norm"] == 1.0
    mixed = asked.get("--mixed_precision", "no")
    assert settings["precision.mixed"] == mixed
    # sd-scripts does not write `--full_bf16` down, which mixed bf16 alone allows.
    unsure = name == "sd_scripts" and mixed == "bf16"
    assert settings.get("precision.adapter") == (None if unsure else "fp32")


def test_an_optimizers_arguments(tmp_path: Path) -> None:
    for name in FACTS:
        lay(files_of(name, "lora") | files_of(name, "resumed"), tmp_path / name)

    first = open_checkpoint(tmp_path / "sd_scripts/cat.safetensors").settings
    assert (
        open_checkpoint(tmp_path / "musubi_tuner/cat.safetensors").settings.items()
        >= {
            "optimizer.name": "adamw",
            "optimizer.weight_decay": 0.05,
            "optimizer.beta1": 0.9,
            "optimizer.beta2": 0.95,
        }.items()
    )
    assert (
        first.items()
        >= {
            "optimizer.unet_learning_rate": 2e-3,
            "optimizer.text_encoder_learning_rate": 5e-4,
            "optimizer.weight_decay": 0.05,
            "optimizer.beta2": 0.95,
            "scheduler.name": "constant_with_warmup",
            "scheduler.warmup_steps": 2,
            "training.max_steps": 4.0,
            "versions.sd_scripts": FACTS["sd_scripts"]["commit"],
        }.items()
    )


def test_switches_of_adafactor_and_prodigy(tmp_path: Path) -> None:
    lay(files_of("sd_scripts", "full bf16"), tmp_path)
    lay(files_of("sd_scripts", "prodigy"), tmp_path)

    adafactor = open_checkpoint(tmp_path / "epochs.safetensors").settings
    prodigy = open_checkpoint(tmp_path / "prodigy.safetensors").settings

    assert adafactor["optimizer.name"] == "adafactor"
    assert adafactor["optimizer.args.scale_parameter"] is False
    assert adafactor["optimizer.args.relative_step"] is False
    assert (prodigy["optimizer.name"], prodigy["optimizer.args.d_coef"]) == ("prodigy", 2.0)


@pytest.mark.parametrize("name", FACTS)
def test_updates_after_the_warm_up_are_counted(tmp_path: Path, name: str) -> None:
    lay(files_of(name, "lora"), tmp_path)

    done = {
        candidate.step: open_checkpoint(candidate.path).updates_done
        for candidate in discover(tmp_path)
        if candidate.path.suffix and candidate.path.stem != "cat"
    }

    assert done == {2: None, 3: 1, 4: 2}


@pytest.mark.parametrize(("name", "run", "directory"), STATES)
def test_a_state(tmp_path: Path, name: str, run: str, directory: str) -> None:
    """Step, trainer and settings come from its own file and the save beside it."""
    pytest.importorskip("torch")
    files = files_of(name, run)
    lay(files, tmp_path, filled)

    found = open_checkpoint(tmp_path / directory)

    model = files[f"{directory}/model.safetensors"]
    beside = files[f"{directory.removesuffix('-state')}.safetensors"]["metadata"]
    assert (found.layout, found.trainer) == ("sd-scripts-state", TRAINERS[name])
    assert found.complete is True
    tensors_hold(found, model["tensors"], zero_of(name, run))
    pairs_hold(found, model["tensors"])
    state = files.get(f"{directory}/train_state.json")
    assert (state is None) == (name == "musubi_tuner")
    expected = int(beside["ss_steps"]) if "ss_steps" in beside else None
    assert found.step == (state["json"]["current_step"] if state else expected)
    assert candidate_at(tmp_path / directory).step == found.step
    dtypes = {dtype for key, (dtype, _shape) in model["tensors"].items() if "lora_" in key}
    assert found.settings["precision.adapter"] == {"F32": "fp32", "BF16": "bf16"}[dtypes.pop()]
    saved = files[f"{directory}/optimizer.bin"]["torch"]
    assert len(found.optimizer.parameters) == len(saved["state"]["$items"])
    assert [group.settings["lr"] for group in found.optimizer.groups] == [
        group["lr"] for group in saved["param_groups"]
    ]


@pytest.mark.parametrize(("name", "run", "directory"), STATES)
def test_a_states_last_file_marks_its_end(
    tmp_path: Path, name: str, run: str, directory: str
) -> None:
    """The file written last, as it was seen, is the one without which a state is not complete."""
    order = FACTS[name]["runs"][run]["order"]
    written = [one.split(maxsplit=1)[1] for one in order if one.startswith(f"write {directory}/")]
    lay({k: v for k, v in files_of(name, run).items() if k.endswith((".json", ".pkl"))}, tmp_path)

    assert is_complete(candidate_at(tmp_path / directory)) is True
    (tmp_path / written[-1]).unlink()
    again = candidate_at(tmp_path / directory)
    assert again is None or is_complete(again) is False


def test_lycoris_scalar_moves_the_zero_side(tmp_path: Path) -> None:
    lay(files_of("sd_scripts", "lycoris lokr"), tmp_path)

    found = open_checkpoint(tmp_path / "cat.safetensors")

    assert found.adapter.init == "scalar"
    assert found.settings["adapter.method"] == "lokr"
    zero = {one.name.rpartition(".")[2] for one in found.tensors if one.zero_at_init}
    assert zero == {"lokr_w1"}


def test_one_run_is_one_history(tmp_path: Path) -> None:
    """Saves and states each follow one another; the last save has the last step."""
    lay(files_of("sd_scripts", "lora"), tmp_path)

    runs: dict[str, list[int | None]] = {}
    for candidate in discover(tmp_path):
        runs.setdefault(candidate.group, []).append(candidate.step)

    assert sorted(runs.values()) == [[2, 3, 4, 4], [2, 3, 4, 4]]
