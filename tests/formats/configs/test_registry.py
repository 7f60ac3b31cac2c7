"""From a file to a trainer: recognition, what is followed and overridden, and bad input."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError
from sentinel.formats.configs.given import LIMIT_BYTES
from sentinel.formats.configs.reader import TrainingConfig
from sentinel.formats.configs.registry import CONFIGS, read_config
from sentinel.formats.setting_names import is_known

SD = {"network_module": "networks.lora", "pretrained_model_name_or_path": "base"}


def read(path: Path, text: str) -> TrainingConfig:
    path.write_text(text, encoding="utf-8", newline="")
    return read_config(path)


@pytest.mark.parametrize(
    ("name", "text", "trainer"),
    [
        ("a.json", '{"training_method": "LORA", "train_dtype": "FLOAT_16"}', "onetrainer"),
        ("a.json", '{"--model_family": "flux", "--learning_rate": 1e-4}', "simpletuner"),
        ("a.toml", 'model_family = "flux"\nlearning_rate = 1e-4\n', "simpletuner"),
        ("config.env", 'export MODEL_FAMILY="flux"\nexport LEARNING_RATE=1e-4\n', "simpletuner"),
        ("a.sh", "simpletuner train --learning_rate=1e-4 --mixed_precision=bf16", "simpletuner"),
        (
            "a.toml",
            '[m]\npretrained_model_name_or_path = "b"\n[x]\nnetwork_module = "networks.lora"\n',
            "sd-scripts",
        ),
        ("a.bat", "python sdxl_train_network.py ^\r\n  --full_fp16\r\n", "sd-scripts"),
        ("a.toml", 'dit = "b"\nnetwork_module = "networks.lora_wan"\n', "musubi-tuner"),
        ("a.yaml", "base_model: b\nadapter: lora\ndatasets: []\n", "axolotl"),
        ("a.sh", "accelerate launch -m axolotl.cli.train --learning_rate 1e-4", "axolotl"),
        ("a.yml", "model_name_or_path: b\nfinetuning_type: lora\n", "llama-factory"),
        ("a.sh", "llamafactory-cli train --lora_rank 8", "llama-factory"),
        ("a.yaml", "config:\n  process:\n  - {train: {lr: 1e-4}}\n", "ai-toolkit"),
        (
            "a.yaml",
            "base: {model: b}\nadapter: {rank: 4}\ntraining: {steps: 9}\n",
            "sentinel-train",
        ),
        ("a.sh", "sentinel-train --resume out/checkpoint-3", "sentinel-train"),
        ("a.sh", "torchrun finetune.py --llm_type qwen --max_slice_nums 9 --fp16", "minicpm-v"),
        (
            "a.sh",
            "python t.py --pretrained_model_name_or_path b --checkpointing_steps 9 --rank 4",
            "diffusers",
        ),
        ("a.json", '{"output_dir": "o", "fp16": true, "save_steps": 9}', "transformers"),
        ("a.sh", "python t.py --output_dir o --fp16 --optim adafactor", "transformers"),
        ("no-suffix", '{"output_dir": "o", "fp16": true, "save_steps": 9}', "transformers"),
        ("no-suffix.conf", "output_dir: o\nfp16: true\nsave_steps: 9\n", "transformers"),
        ("start", "#!/bin/sh\npython train_network.py --full_fp16\n", "sd-scripts"),
    ],
)
def test_a_trainer_is_known_by_what_its_configuration_holds(tmp_path, name, text, trainer):
    """By content first, by the program's name second, whatever the file is called."""
    found = read(tmp_path / name, text)

    assert found.trainer == trainer
    assert all(map(is_known, found.settings))


def test_every_trainer_is_covered_above():
    """A reader that nobody tests is none."""
    cases = test_a_trainer_is_known_by_what_its_configuration_holds.pytestmark[0].args[1]

    assert {reader.TRAINER for reader in CONFIGS} == {trainer for *_, trainer in cases}


def test_a_command_overrides_the_file_that_it_names(tmp_path):
    """sd-scripts reads its TOML first and the command line over it."""
    (tmp_path / "c.toml").write_text(
        'network_module = "networks.lora"\npretrained_model_name_or_path = "b"\n'
        'learning_rate = 1e-4\nmixed_precision = "fp16"\n'
    )
    found = read(
        tmp_path / "train.sh",
        "accelerate launch train_network.py --config_file c.toml --learning_rate 5e-4",
    )

    assert found.settings["optimizer.learning_rate"] == 5e-4
    assert found.settings["precision.mixed"] == "fp16"
    assert found.notes == ()


def test_a_file_that_is_not_there_is_said(tmp_path):
    """What could not be taken into account never goes unsaid."""
    found = read(
        tmp_path / "train.sh", "python train_network.py --config_file gone.toml --full_bf16"
    )

    assert found.settings["precision.adapter"] == "bf16"
    (note,) = found.notes
    assert note.startswith("the configuration 'gone.toml' that the command names was not found")


def test_parts_are_laid_over_parts(tmp_path):
    """OneTrainer's `--config-value optimizer.eps=...` changes that one value."""
    config = {
        "training_method": "LORA",
        "train_dtype": "FLOAT_16",
        "optimizer": {"optimizer": "ADAMW", "eps": 1e-8, "weight_decay": 0.01},
    }
    (tmp_path / "c.json").write_text(json.dumps(config))
    found = read(
        tmp_path / "train.sh",
        "python scripts/train.py --config-path=c.json --config-value optimizer.eps=1e-6"
        " --config-value lora_weight_dtype=FLOAT_16",
    )

    assert found.settings["optimizer.name"] == "adamw"
    assert found.settings["precision.adapter"] == "fp16"
    assert float(found.settings["optimizer.args.eps"]) == 1e-6


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("a.json", b"[1]", "holds no JSON object"),
        ("a.json", b"{", "its JSON ends too early"),
        ("a.toml", b"= 1", "is no TOML"),
        ("a.toml", b"a = " + b"[" * 5000, "is nested too deep"),
        ("a.yaml", b"- 1", "holds no YAML mapping"),
        ("a.sh", b"echo 'x", "a quote begins and is never closed"),
        ("a.sh", b"echo hello", "holds a command line of no trainer known here"),
        ("a.yaml", b"who: knows", "holds the fields of no trainer known here"),
        ("a.py", b"print()", "is a Python program, which is never run"),
        ("a.yaml", b"\xff\xfe", "is no UTF-8 text"),
        ("a.yaml", b" " * (LIMIT_BYTES + 1), "the limit is"),
    ],
)
def test_what_is_no_configuration_is_told_in_one_sentence(tmp_path, name, content, fact):
    """What it is instead, and what was looked for."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as told:
        read_config(path)

    assert fact in str(told.value)
    assert "\n" not in str(told.value)


def test_what_was_looked_for_is_told(tmp_path):
    """Somebody with a file of another trainer learns which are known."""
    with pytest.raises(InputError) as told:
        read(tmp_path / "a.yaml", "who: knows")

    assert all(reader.LOOKS_FOR in str(told.value) for reader in CONFIGS)


keys = st.sampled_from(
    [
        *("network_module", "pretrained_model_name_or_path", "dit", "optimizer_args", "resume"),
        *("training_method", "train_dtype", "optimizer", "lora_weight_dtype", "unet"),
        *("model_family", "base_model", "adapter", "datasets", "bf16", "fp16", "optim_args"),
        *("finetuning_type", "output_dir", "save_steps", "config", "process", "train", "base"),
        *("training", "llm_type", "tune_vision", "quantization_bit", "learning_rate"),
        *("lora_modules_to_save", "lr_scheduler_kwargs", "resume_from_checkpoint"),
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=20,
)
LAX = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@LAX
@given(content=st.dictionaries(keys, values, max_size=14))
def test_any_fields_end_in_settings_or_one_sentence(tmp_path, content):
    """Right names with wrong values are no crash, and no setting of another type."""
    try:
        found = read(tmp_path / "a.json", json.dumps(content))
    except InputError:
        return
    assert all(isinstance(value, str | int | float | bool) for value in found.settings.values())
    assert all(map(is_known, found.settings))


@LAX
@given(
    suffix=st.sampled_from([".json", ".yaml", ".toml", ".sh", ".bat", ".env", ""]),
    text=st.text() | st.text(alphabet="a-='\"\\ \n[]{}:&*$%^#.1e"),
)
def test_any_text_ends_in_a_configuration_or_one_sentence(tmp_path, suffix, text):
    """Whatever the file is called and whatever is in it."""
    said = ""
    try:
        read(tmp_path / f"a{suffix}", text)
    except InputError as error:
        said = str(error)
    assert "\n" not in said


@LAX
@given(words=st.lists(st.text() | keys.map("--{}".format), max_size=12))
def test_any_command_line_ends_in_settings_or_one_sentence(tmp_path, words):
    """The words of a known program are never a crash."""
    clean = [word.replace("\0", "") for word in words]
    try:
        found = read(tmp_path / "a.sh", shlex.join(["python", "train_network.py", *clean]))
    except (InputError, UnicodeEncodeError):
        return
    assert found.settings


def test_an_option_that_names_a_length_goes_over_the_recipe_s_other_one(tmp_path):
    """Of steps and epochs sentinel-train takes one; the command's is the one in use."""
    (tmp_path / "r.yaml").write_text("base: {model: b}\nadapter: {}\ntraining: {steps: 9}\n")
    plain = read(tmp_path / "a.sh", "sentinel-train r.yaml --set training.seed=1")
    told = read(tmp_path / "b.sh", "sentinel-train r.yaml --set training.epochs=2")

    assert plain.settings["training.max_steps"] == 9
    assert "training.epochs" not in plain.settings
    assert told.settings["training.epochs"] == 2
    assert "training.max_steps" not in told.settings
