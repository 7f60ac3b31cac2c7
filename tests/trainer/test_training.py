# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""What a training leaves behind, and that every kind of training runs on the real libraries."""

from __future__ import annotations

import json
import platform

import pytest

pytestmark = pytest.mark.trainer

FILES = {
    "adapter_model.safetensors",
    "adapter_config.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
}


def weights_of(checkpoint):
    from safetensors.torch import load_file

    return load_file(checkpoint / "adapter_model.safetensors")


def manifest_of(checkpoint):
    return json.loads((checkpoint / "sentinel_manifest.json").read_text())


def test_checkpoints_have_the_trainer_layout_and_a_manifest_last(finished):
    names = sorted(path.name for path in finished.iterdir())
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "metrics.jsonl"]
    checkpoint = finished / "checkpoint-4"
    manifest = manifest_of(checkpoint)
    assert manifest["files"].keys() >= FILES
    present = {path.name: path.stat().st_size for path in checkpoint.iterdir()}
    del present["sentinel_manifest.json"]
    assert {name: entry["size_bytes"] for name, entry in manifest["files"].items()} == present
    youngest = max(checkpoint.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert youngest.name == "sentinel_manifest.json"


def test_the_manifest_says_what_was_done(finished, base_model):
    manifest = manifest_of(finished / "checkpoint-4")
    assert manifest["schema"] == 1
    assert manifest["trainer"] == "sentinel-train"
    assert (manifest["step"], manifest["updates_done"]) == (4, 4)
    assert manifest["base"]["path"] == str(base_model)
    assert manifest["base"]["fingerprint"].startswith("sha256:")
    assert manifest["base"]["quantization"] == "none"
    assert manifest["adapter"] == {"method": "lora", "dtype": "fp32", "rank": 2, "alpha": 4.0}
    assert manifest["optimizer"] == {"name": "adamw-fused", "learning_rate": 1e-3, "args": {}}
    assert manifest["versions"]["python"] == platform.python_version()
    assert manifest["device"]["type"] in {"cpu", "cuda"}
    assert isinstance(manifest["device"]["bf16"], bool)
    assert manifest["resumed_from"] is None
    assert manifest["recipe"]["training"]["steps"] == 6


def test_metrics_have_one_line_a_log(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(line["loss"] > 0 and line["grad_norm"] > 0 for line in lines)
    assert lines[0]["learning_rate"] == pytest.approx(1e-3)
    assert lines[-1]["learning_rate"] < lines[0]["learning_rate"]


def test_peft_opens_the_checkpoint(finished, base_model):
    """The values in the file are the values in the model that PEFT builds from it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base_model)
    model = PeftModel.from_pretrained(base, finished / "checkpoint-6")
    inside = dict(model.named_parameters())
    tensors = weights_of(finished / "checkpoint-6")
    assert tensors
    for key, tensor in tensors.items():
        assert torch.equal(inside[key.replace(".weight", ".default.weight")], tensor)
    assert any(tensor.any() for key, tensor in tensors.items() if "lora_B" in key)


def test_warm_up_steps_at_rate_zero_are_no_updates(train, tmp_path):
    """Linear warm-up makes its first step at learning rate zero."""
    assert train(tmp_path, training__warmup_steps=2, training__steps=2) == 0
    assert manifest_of(tmp_path / "checkpoint-2")["updates_done"] == 1


def test_loss_that_is_not_finite_is_logged_as_such_and_goes_on(train, tmp_path):
    """Plain AdamW divides zero by zero in fp16; the run is not ours to stop."""
    settings = {"adapter__dtype": "fp16", "training__optimizer": "{name: adamw}"}
    assert train(tmp_path, **settings, training__steps=4) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] is None
    assert "loss" in lines[-1]["non_finite"]
    assert not all(
        tensor.isfinite().all() for tensor in weights_of(tmp_path / "checkpoint-4").values()
    )


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_every_trained_weight_has_the_recipes_dtype(train, tmp_path, dtype):
    """Whole modules too, which PEFT leaves in the base's dtype."""
    import torch

    settings = {"adapter__dtype": dtype, "adapter__modules_to_save": "[lm_head]"}
    assert train(tmp_path, **settings, training__steps=1) == 0
    tensors = weights_of(tmp_path / "checkpoint-1")
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    assert {tensor.dtype for tensor in tensors.values()} == {wanted}
    assert "base_model.model.lm_head.weight" in tensors
    state = torch.load(tmp_path / "checkpoint-1" / "optimizer.pt", weights_only=True)
    moments = [value["exp_avg"].dtype for value in state["state"].values()]
    assert set(moments) == {wanted}


@pytest.mark.parametrize(
    "optimizer",
    [
        "{name: adamw, args: {weight_decay: 0.1}}",
        "{name: prodigy}",
        "{name: prodigy-plus}",
        "{name: adafactor}",
        "{name: adafactor, args: {relative_step: true, scale_parameter: true}}",
    ],
)
def test_every_optimizer_moves_the_adapter_and_resumes(train, tmp_path, optimizer):
    settings = {"training__optimizer": optimizer, "training__learning_rate": "null"}
    settings |= {"training__scheduler": "constant"}
    assert train(tmp_path, **settings, training__steps=2) == 0
    first = weights_of(tmp_path / "checkpoint-2")
    assert any(tensor.any() for key, tensor in first.items() if "lora_B" in key)
    assert train(tmp_path, "--resume", tmp_path / "checkpoint-2", **settings) == 0
    second = weights_of(tmp_path / "checkpoint-6")
    assert any((first[key] != second[key]).any() for key in first)
    assert manifest_of(tmp_path / "checkpoint-6")["updates_done"] == 6


def test_wrong_optimizer_arguments_are_refused(train, tmp_path, capsys):
    assert train(tmp_path, training__optimizer="{name: adamw, args: {bettas: 1}}") == 2
    assert "check training.optimizer.args" in capsys.readouterr().err


def test_dora_on_a_quantised_base_with_evaluation(train, tmp_path):
    settings = {
        "base__quantization": "nf4",
        "base__double_quant": "true",
        "adapter__method": "dora",
        "data__eval_files": "[python-stdlib:abc.py]",
        "training__eval_every": 2,
        "training__steps": 2,
        "training__gradient_accumulation": 2,
    }
    assert train(tmp_path, **settings) == 0
    assert any("magnitude" in key for key in weights_of(tmp_path / "checkpoint-2"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert "eval_loss" in lines[-1]


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_classifier_trains_its_head_as_well(train, tmp_path, method):
    data = tmp_path / "data.jsonl"
    rows = [{"sentence": f"word {number}", "kind": number % 3} for number in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": "sequence-classification",
        "num_labels": 3,
        "adapter__method": method,
        "adapter__dtype": "fp16",
        "data": f"{{files: [{data}], format: jsonl, text_key: sentence, label_key: kind}}",
        "training__steps": 2,
    }
    assert train(tmp_path / "out", **settings) == 0
    tensors = weights_of(tmp_path / "out" / "checkpoint-2")
    assert tensors["base_model.model.score.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", "label": 7}', "'label' is 7, not a whole number below 2"),
        ('{"label": 1}', "no text under 'text'"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(train, tmp_path, capsys, line, said):
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a", "label": 1}\n' + line + "\n")
    settings = {"task": "sequence-classification", "num_labels": 2}
    assert train(tmp_path / "out", **settings, data=f"{{files: [{data}], format: jsonl}}") == 2
    told = capsys.readouterr().err
    assert "data.jsonl:2" in told
    assert said in told
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_base_that_is_not_there_is_refused(train, tmp_path, capsys):
    assert train(tmp_path / "out", base__model=str(tmp_path / "none")) == 2
    assert "can't be loaded" in capsys.readouterr().err
