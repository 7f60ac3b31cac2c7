"""Axolotl and LLaMA-Factory: what whole trainings by their own commands left, read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from laying import facts_of, lay

from sentinel.formats.opening import discover, is_complete, open_checkpoint
from sentinel.stats.measure import measure

FACTS = {name: facts_of(name) for name in ("axolotl", "llama_factory")}
TRAINERS = {"axolotl": "axolotl", "llama_factory": "llama-factory"}
RUNS = [
    (name, run)
    for name, facts in FACTS.items()
    for run, what in facts["runs"].items()
    if "files" in what
]
OPAQUE = ("training_args.bin", "rng_state.pth")
"""Pickles that the facts only know the size of."""


def laid(name: str, run: str, root: Path) -> tuple[Path, dict[str, Any]]:
    """Lay one run out; return its last checkpoint and the facts of the files in it."""
    files = FACTS[name]["runs"][run]["files"]
    lay({key: facts for key, facts in files.items() if not key.endswith(OPAQUE)}, root)
    last = max({Path(key).parts[0] for key in files if key.startswith("checkpoint-")})
    return root / last, {
        key.removeprefix(f"{last}/"): facts
        for key, facts in files.items()
        if key.startswith(f"{last}/")
    }


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_a_checkpoint(tmp_path: Path, name: str, run: str) -> None:
    """Trainer, step and end; every tensor's name, shape, dtype, role and zero side."""
    pytest.importorskip("torch")
    path, files = laid(name, run, tmp_path)

    found = open_checkpoint(path)

    tensors = files["adapter_model.safetensors"]["tensors"]
    config = files["adapter_config.json"]["json"]
    assert (found.layout, found.trainer, found.faults) == (
        "transformers-trainer",
        TRAINERS[name],
        (),
    )
    assert (found.step, found.complete) == (int(path.name.removeprefix("checkpoint-")), True)
    assert {one.name: [one.dtype, list(one.shape)] for one in found.tensors} == tensors
    roles = {
        ".lora_A.weight": "lora_down",
        ".lora_B.weight": "lora_up",
        ".lora_magnitude_vector": "magnitude",
        ".oft_R.weight": "adapter",
    }
    for one in found.tensors:
        end = next((end for end in roles if one.name.endswith(end)), None)
        assert one.role == (roles[end] if end else "modules_to_save")
        begins_at_zero = end in {".lora_B.weight", ".oft_R.weight"}
        assert one.zero_at_init == (begins_at_zero and "pissa" not in str(config))
    rows = measure(found, digest=False).pairs.to_pylist()
    divisor = config.get("r", 0) ** (0.5 if config.get("use_rslora") else 1)
    assert all(row["scale"] == config["lora_alpha"] / divisor for row in rows)


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_what_is_written_last_marks_the_end(tmp_path: Path, name: str, run: str) -> None:
    pytest.importorskip("torch")
    path, _files = laid(name, run, tmp_path)
    written = FACTS[name]["runs"][run]["order"][-1].rpartition("/")[2]

    [candidate] = [one for one in discover(tmp_path) if one.path == path]
    assert is_complete(candidate) is True
    (path / written).unlink()
    assert is_complete(candidate) is False


@pytest.mark.parametrize("run", FACTS["axolotl"]["runs"])
def test_axolotls_configuration_comes_from_its_log(tmp_path: Path, run: str) -> None:
    """After a resume that changed the rate, what it was at a checkpoint is not known."""
    pytest.importorskip("torch")
    asked = FACTS["axolotl"]["runs"][run]["configuration"]
    path, _files = laid("axolotl", run, tmp_path)

    settings = open_checkpoint(path).settings

    expected = {
        "base.path": "base",
        "optimizer.name": "adamw_torch",
        "scheduler.name": "constant_with_warmup",
        "scheduler.warmup_steps": 1,
        "precision.mixed": "no",
        "adapter.rank": 4,
        "training.save_steps": 2,
    }
    assert expected.items() <= settings.items()
    resumed = "auto_resume_from_checkpoints" in asked
    assert settings.get("optimizer.learning_rate") == (None if resumed else asked["learning_rate"])


@pytest.mark.parametrize(
    ("asked", "scheme"),
    [
        ({"load_in_4bit": True}, "nf4"),
        ({"load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_quant_type": "fp4"}}, "fp4"),
        ({"load_in_8bit": True}, "int8"),
        ({}, None),
    ],
)
def test_axolotls_quantisation(tmp_path: Path, asked: dict[str, Any], scheme: str | None) -> None:
    pytest.importorskip("torch")
    path, _files = laid("axolotl", "lora", tmp_path)
    config = json.dumps({"base_model": "base", "bf16": True, **asked}, indent=2)
    (tmp_path / "debug.log").write_text(f"[x] [INFO] config:\n{config}\n[x] more\n")

    settings = open_checkpoint(path).settings

    assert settings.get("base.quantization") == scheme
    assert settings["precision.mixed"] == "bf16"


@pytest.mark.parametrize(
    "log", ["", " config:\n{", " config:\n{\n}\n", " config:\n{\n1\n}\n", " config:\n{\n}\n" * 200]
)
def test_no_log_raises(tmp_path: Path, log: str) -> None:
    pytest.importorskip("torch")
    path, _files = laid("axolotl", "lora", tmp_path)
    (tmp_path / "debug.log").write_text(log)

    found = open_checkpoint(path)

    assert (found.trainer, found.faults) == ("axolotl", ())
    assert "optimizer.name" not in found.settings


def test_what_llama_factorys_web_interface_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path, _files = laid("llama_factory", "lora", tmp_path)
    lay(FACTS["llama_factory"]["web"], tmp_path)
    arguments = tmp_path / "training_args.yaml"
    arguments.write_text(arguments.read_text() + "quantization_bit: 4\noptim: adamw_torch\n")
    os.utime(arguments, (1, 1))

    settings = open_checkpoint(path).settings

    assert (
        settings.items()
        >= {
            "optimizer.learning_rate": 1e-3,
            "optimizer.name": "adamw_torch",
            "precision.mixed": "bf16",
            "base.quantization": "nf4",
        }.items()
    )
    os.utime(arguments, (2**32, 2**32))
    assert "optimizer.name" not in open_checkpoint(path).settings


def test_llama_factorys_adapters_beside_its_checkpoints(tmp_path: Path) -> None:
    """`pissa_init` and `pissa_converted` are adapters of their own, no steps of the run."""
    pytest.importorskip("torch")
    laid("llama_factory", "pissa", tmp_path)

    found = {one.path.name: (one.layout, one.step) for one in discover(tmp_path)}

    assert found["checkpoint-4"] == ("transformers-trainer", 4)
    assert found["pissa_init"] == found["pissa_converted"] == ("peft", None)


def test_axolotls_last_save_lies_beside_its_log(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    laid("axolotl", "weights only", tmp_path)

    found = open_checkpoint(tmp_path)

    assert (found.layout, found.trainer, found.step) == ("peft", "axolotl", None)
    assert found.settings["optimizer.learning_rate"] == 3e-3


def test_llama_factorys_last_save_has_the_last_step(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    laid("llama_factory", "lora", tmp_path)

    found = open_checkpoint(tmp_path)

    assert (found.layout, found.trainer) == ("transformers-trainer", "llama-factory")
    assert (found.step, found.complete, found.faults) == (4, True, ())
