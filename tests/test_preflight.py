"""Before step 1: each story's configuration is found, and its repaired twin is quiet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.preflight import Checked, check, check_machine
from sentinel.rules.load import load_rules

RULES = load_rules()
A100 = {"device.type": "cuda", "device.name": "NVIDIA A100", "device.bf16": True}
T4 = {"device.type": "cuda", "device.name": "Tesla T4", "device.bf16": False}

ONETRAINER: dict[str, Any] = {
    "training_method": "LORA",
    "train_dtype": "BFLOAT_16",
    "lora_weight_dtype": "FLOAT_32",
    "learning_rate": 1.0,
    "learning_rate_scheduler": "CONSTANT",
    "optimizer": {"optimizer": "PRODIGY", "d0": 1e-6},
}
ADAFACTOR: dict[str, Any] = {
    **ONETRAINER,
    "lora_decompose": True,
    "learning_rate": 3e-4,
    "optimizer": {"optimizer": "ADAFACTOR", "scale_parameter": False, "relative_step": False},
}
CALL_OF_2024 = (
    "python scripts/train.py --training-method LORA --train-dtype FLOAT_16"
    " --lora-weight-dtype {} --optimizer PRODIGY --learning-rate 1.0"
)
CLASSIFIER = (
    "python train.py --model_name_or_path base --use_peft --lora_task_type SEQ_CLS --output_dir o"
    " --num_train_epochs 1 --optim adamw_torch"
)
MINICPM = (
    "torchrun finetune.py --llm_type qwen --tune_vision true --use_lora true --output_dir o"
    " --fp16 {fp16} --fp16_full_eval {fp16} --bf16 {bf16} --bf16_full_eval {bf16}"
)


def optimizer(**changed: Any) -> dict[str, Any]:
    return {**ADAFACTOR["optimizer"], **changed}


def sd_scripts(options: str) -> str:
    return (
        "accelerate launch train_network.py --pretrained_model_name_or_path b"
        f" --network_module networks.lora --network_dim 16 {options}"
    )


RECIPE = """
base: {{model: b}}
adapter: {{rank: 4, dtype: {}}}
training: {{steps: 9, optimizer: {{name: prodigy}}}}
"""

# name, file, bad, what is found, how grave, the repaired twin, the machine
STORIES: dict[str, tuple[str, Any, str, str, Any, dict[str, Any]]] = {
    "1 OneTrainer's fp16 weights": (
        "c.json",
        {**ONETRAINER, "lora_weight_dtype": "FLOAT_16"},
        "fp16-adapter-configured",
        "faulty",
        ONETRAINER,
        A100,
    ),
    "1 as it was called in 2024": (
        "t.sh",
        CALL_OF_2024.format("FLOAT_16"),
        "fp16-adapter-configured",
        "faulty",
        CALL_OF_2024.format("FLOAT_32"),
        T4,
    ),
    "1 sd-scripts' full_fp16": (
        "t.sh",
        sd_scripts("--mixed_precision fp16 --full_fp16 --optimizer_type AdamW"),
        "fp16-adapter-configured",
        "suspect",
        sd_scripts("--mixed_precision bf16 --optimizer_type AdamW"),
        A100,
    ),
    "1 the bundled trainer's": (
        "r.yaml",
        RECIPE.format("fp16"),
        "fp16-adapter-configured",
        "faulty",
        RECIPE.format("fp32"),
        A100,
    ),
    "2 SimpleTuner's resume on a quanto base": (
        "config.json",
        {
            "model_family": "flux",
            "mixed_precision": "bf16",
            "base_model_precision": "int8-quanto",
            "resume_from_checkpoint": "latest",
            "optimizer": "adamw_bf16",
        },
        "quanto-resume",
        "suspect",
        {
            "model_family": "flux",
            "mixed_precision": "bf16",
            "base_model_precision": "int8-quanto",
            "init_lora": "elsewhere/pytorch_lora_weights.safetensors",
            "optimizer": "adamw_bf16",
        },
        {**A100, "versions.optimum-quanto": "0.2.4"},
    ),
    "3 a classifier on an fp16 base": (
        "t.sh",
        f"{CLASSIFIER} --fp16 --torch_dtype float16",
        "fp16-modules-configured",
        "suspect",
        f"{CLASSIFIER} --bf16 --torch_dtype bfloat16",
        {**A100, "versions.peft": "0.21.2"},
    ),
    "3 a PEFT that leaves the adapter in fp16": (
        "t.sh",
        f"{CLASSIFIER} --fp16 --torch_dtype float16",
        "fp16-adapter-configured",
        "suspect",
        f"{CLASSIFIER} --fp16 --torch_dtype float32",
        {**T4, "versions.peft": "0.10.0"},
    ),
    "4 MiniCPM-V's default": (
        "finetune_lora.sh",
        MINICPM.format(fp16="true", bf16="false"),
        "minicpm-v-fp16",
        "suspect",
        MINICPM.format(fp16="false", bf16="true"),
        A100,
    ),
    "5 Adafactor that scales": (
        "c.json",
        {**ADAFACTOR, "optimizer": optimizer(scale_parameter=True)},
        "adafactor-settings",
        "suspect",
        ADAFACTOR,
        A100,
    ),
    "5 repaired by half": (
        "c.json",
        {**ADAFACTOR, "learning_rate": 1.0},
        "adafactor-settings",
        "suspect",
        ADAFACTOR,
        A100,
    ),
    "5 sd-scripts' default": (
        "t.sh",
        sd_scripts("--mixed_precision bf16 --optimizer_type AdaFactor --learning_rate 1e-4"),
        "adafactor-settings",
        "suspect",
        sd_scripts(
            "--mixed_precision bf16 --optimizer_type AdaFactor --learning_rate 1e-4"
            " --optimizer_args scale_parameter=False relative_step=False"
        ),
        A100,
    ),
    "bf16 on a device without": (
        "t.sh",
        sd_scripts("--mixed_precision bf16 --optimizer_type AdamW"),
        "precision-unsupported-by-device",
        "suspect",
        sd_scripts("--mixed_precision fp16 --optimizer_type AdamW"),
        T4,
    ),
    "Prodigy at another optimizer's rate": (
        "c.json",
        {**ONETRAINER, "learning_rate": 1e-4},
        "prodigy-learning-rate",
        "suspect",
        ONETRAINER,
        A100,
    ),
    "a resume that the script ignores": (
        "t.sh",
        MINICPM.format(fp16="false", bf16="true") + " --resume_from_checkpoint $LAST",
        "resume-ignored",
        "suspect",
        MINICPM.format(fp16="false", bf16="true"),
        A100,
    ),
    "both precisions": (
        "a.yaml",
        "output_dir: o\nfp16: true\nbf16: true\nsave_steps: 5\n",
        "precision-refused",
        "faulty",
        "output_dir: o\nfp16: false\nbf16: true\nsave_steps: 5\n",
        A100,
    ),
    "no loss scaling": (
        "c.json",
        {**ONETRAINER, "train_dtype": "FLOAT_16", "lora_weight_dtype": "BFLOAT_16"},
        "loss-scaling-off",
        "suspect",
        {**ONETRAINER, "train_dtype": "FLOAT_16"},
        T4,
    ),
}


def checked(path: Path, content: Any, machine: dict[str, Any], **options: Any) -> Checked:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return check(path, rules=RULES, machine=machine, **options)


def found(result: Checked) -> set[str]:
    """The rules that are worse than a remark."""
    return {one.rule for one in result.verdict.findings if one.severity != "info"}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_story_is_seen_before_step_1(story, tmp_path):
    """Named with the settings to change, as grave as it was measured to be."""
    name, bad, rule, level, _good, machine = story
    result = checked(tmp_path / name, bad, machine)

    assert rule in found(result)
    assert result.verdict.level == level


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_its_repaired_twin_is_quiet(story, tmp_path):
    """What the finding asks for ends the finding, and begins no other."""
    name, _bad, _rule, _level, good, machine = story

    assert found(checked(tmp_path / name, good, machine)) == set()


def test_fp16_where_bf16_would_do_is_a_remark(tmp_path):
    """fp16 autocast over fp32 weights can work, so it is no doubt."""
    script = sd_scripts("--mixed_precision fp16 --optimizer_type AdamW")
    result = checked(tmp_path / "t.sh", script, A100)

    assert [one.rule for one in result.verdict.findings] == ["fp16-on-bf16-device"]
    assert result.verdict.level == "healthy"


def test_minicpm_vs_answer_depends_on_the_device(tmp_path):
    """Story 4 asks: fp16 or bf16? bf16 where there is a unit for it, else fp32."""
    script = MINICPM.format(fp16="true", bf16="false")
    says = [
        checked(tmp_path / "a.sh", script, machine).verdict.findings[0].message
        for machine in (A100, T4, {})
    ]

    assert "NVIDIA A100 has bf16: set --bf16 true" in says[0]
    assert "Tesla T4 has no bf16: set --fp16 false" in says[1]
    assert "on a GPU of compute capability 8.0 or more set --bf16 true" in says[2]


def test_what_the_configuration_says_of_itself_wins(tmp_path):
    """The machine's settings only stand where the configuration has none."""
    result = checked(tmp_path / "c.json", ONETRAINER, {"precision.adapter": "fp16", **A100})

    assert result.settings["precision.adapter"] == "fp32"
    assert result.settings["device.name"] == "NVIDIA A100"
    assert "device.name" not in result.config.settings


# -- what it begins from --


def adapter(path: Path, *, up: float = 0.01, in_features: int = 32) -> Path:
    """A PEFT adapter on one layer."""
    path.mkdir(parents=True)
    draw = np.random.default_rng(0)
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": draw.uniform(-0.2, 0.2, (4, in_features)).astype("f4"),
        f"{module}.lora_B.weight": np.full((16, 4), up, "f4"),
    }
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    return path


@pytest.fixture
def base(tmp_path) -> Path:
    path = tmp_path / "base"
    path.mkdir()
    weight = np.ones((16, 32), "f4")
    save_file({"model.layers.0.self_attn.q_proj.weight": weight}, path / "model.safetensors")
    (path / "config.json").write_text('{"model_type": "llama"}')
    return path


def llama_factory(start: str) -> str:
    return (
        f"model_name_or_path: b\nfinetuning_type: lora\nbf16: true\nadapter_name_or_path: {start}\n"
    )


def test_the_adapter_it_begins_from_is_held_against_the_base(tmp_path, base):
    """A wrong shape is found before anything was loaded."""
    adapter(tmp_path / "fits")
    adapter(tmp_path / "wide", in_features=48)
    fits = checked(tmp_path / "a.yaml", llama_factory("fits"), A100, base=base)
    wide = checked(tmp_path / "a.yaml", llama_factory("wide"), A100, base=base)

    assert fits.start is not None
    assert wide.start is not None
    assert fits.start.verdict.level == "healthy"
    assert "adapter-shape-mismatch-base" in {one.rule for one in wide.start.verdict.findings}


def test_a_faulty_start_is_seen(tmp_path):
    """A training that begins with NaN never leaves it."""
    adapter(tmp_path / "nan", up=np.nan)
    result = checked(tmp_path / "a.yaml", llama_factory("nan"), A100)

    assert result.start is not None
    assert result.start.verdict.level == "faulty"


@pytest.mark.parametrize(
    ("start", "note"),
    [
        ("gone", "'gone', from which it begins, is not here"),
        ("$LAST", "'$LAST', from which it begins, is not here"),
        ("https://example.org/x", "'https://example.org/x', from which it begins, is not here"),
        ("empty", "'empty', from which it begins, is no checkpoint"),
    ],
)
def test_a_start_that_is_not_here_is_said(tmp_path, start, note):
    """What was not looked at never passes for healthy."""
    (tmp_path / "empty").mkdir()
    result = checked(tmp_path / "a.yaml", llama_factory(f"'{start}'"), A100)

    assert result.start is None
    assert result.notes == (note,)


def test_a_resume_that_keeps_the_old_rate_is_told(tmp_path):
    """Of the newest checkpoint in the output directory, which `true` means."""
    for step in (10, 9):
        path = adapter(tmp_path / "out" / f"checkpoint-{step}")
        state = {"global_step": step, "log_history": []}
        (path / "trainer_state.json").write_text(json.dumps(state))
    torch = pytest.importorskip("torch")
    arguments = pytest.importorskip("transformers").TrainingArguments(
        output_dir="out", learning_rate=5e-4, report_to=[]
    )
    torch.save(arguments, tmp_path / "out" / "checkpoint-10" / "training_args.bin")
    text = (
        "model_name_or_path: b\nfinetuning_type: lora\nbf16: true\nresume_from_checkpoint: true\n"
        f"output_dir: {tmp_path / 'out'}\nlearning_rate: {{}}\n"
    )
    changed = checked(tmp_path / "a.yaml", text.format("1.0e-4"), A100)
    same = checked(tmp_path / "a.yaml", text.format("5.0e-4"), A100)

    assert changed.start is not None
    assert changed.start.checkpoint.step == 10
    assert "resume-keeps-settings" in found(changed)
    assert "resume-keeps-settings" not in found(same)


# -- the machine alone --


def test_a_machine_is_asked_without_a_training():
    """Faults that only some trainings meet are told apart from those that all meet."""
    fine, _ = check_machine({**A100, "versions.peft": "0.21.2"}, rules=RULES)
    _, possible = check_machine({**A100, "versions.peft": "0.10.0"}, rules=RULES)

    assert fine.level == "healthy"
    assert "fp16-adapter-configured" in {one.rule for one in possible}
