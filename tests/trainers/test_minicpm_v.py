"""MiniCPM-V: what its own fine-tuning script left, laid out from the facts."""

from __future__ import annotations

from pathlib import Path

import pytest
from laying import facts_of, lay

from sentinel.formats.opening import discover, open_checkpoint
from sentinel.stats.measure import measure

FACTS = facts_of("minicpm_v")
RUNS = FACTS["runs"]


@pytest.mark.parametrize("run", RUNS)
def test_a_checkpoint(tmp_path: Path, run: str) -> None:
    """Told by what it saves whole; LoRA in fp32, whole modules in the base's dtype."""
    pytest.importorskip("torch")
    files = RUNS[run]["files"]
    kept = {
        k: v for k, v in files.items() if not k.endswith(("training_args.bin", "rng_state.pth"))
    }
    lay(kept, tmp_path)

    [candidate] = [one for one in discover(tmp_path) if one.step]
    found = open_checkpoint(candidate.path)

    name = candidate.path.name
    config = files[f"{name}/adapter_config.json"]["json"]
    tensors = files[f"{name}/adapter_model.safetensors"]["tensors"]
    assert (found.layout, found.trainer) == ("transformers-trainer", "minicpm-v")
    assert (found.step, found.complete) == (int(name.removeprefix("checkpoint-")), True)
    assert {one.name: [one.dtype, list(one.shape)] for one in found.tensors} == tensors
    whole = {one.name for one in found.tensors if one.role == "modules_to_save"}
    assert whole == {key for key in tensors if "lora_" not in key}
    assert {one.name for one in found.tensors if one.zero_at_init} == {
        key for key in tensors if ".lora_B." in key
    }
    assert found.settings["precision.adapter"] == "fp32"
    rows = measure(found, digest=False).pairs.to_pylist()
    assert {(row["rank"], row["alpha"]) for row in rows} == {(config["r"], config["lora_alpha"])}
    logged = files[f"{name}/trainer_state.json"]["json"]["log_history"]
    assert {one.step for one in found.metrics} == {entry["step"] for entry in logged}


def test_what_is_written_last_marks_the_end() -> None:
    for what in RUNS.values():
        assert what["order"][-1] == "write checkpoint-4/trainer_state.json"


def test_a_resume_is_asked_for_and_ignored() -> None:
    """`train()` is given nothing, so checkpoint 4 was trained and written once more."""
    assert FACTS["calls"]["trainer.train"] == []
    assert "--resume_from_checkpoint fp32/checkpoint-4" in RUNS["resumed"]["arguments"]
    assert "write checkpoint-4/adapter_model.safetensors" in RUNS["resumed"]["order"]


def test_what_the_script_passes_and_its_parser_takes() -> None:
    """At this commit its LoRA script trains in fp16 and passes an option nobody knows any more."""
    script = FACTS["scripts"]["finetune_lora.sh"]

    assert (script["options"]["--fp16"], script["options"]["--bf16"]) == ("true", "false")
    assert script["refused"] == ["--evaluation_strategy"]
    assert FACTS["scripts"]["finetune_ds.sh"]["refused"] == []
