"""Configurations as the trainers' own parsers take them: every key real, every value the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from laying import facts_of, lay

from sentinel.formats.configs import (
    ai_toolkit,
    axolotl,
    kohya_options,
    llama_factory,
    minicpm_v,
    musubi_tuner,
    onetrainer,
    sd_scripts,
    simpletuner,
    transformers,
)
from sentinel.formats.configs.reader import TrainingConfig
from sentinel.formats.configs.registry import CONFIGS, read_config
from sentinel.formats.opening import discover, open_checkpoint

HUGGING_FACE = set(transformers.ARGUMENTS) | {"optim_args", "resume_from_checkpoint", "deepspeed"}


def keys_of(*modules: ModuleType) -> set[str]:
    return {key for module in modules for key in (*module.KEYS, *getattr(module, "OTHERS", ()))}


def options(facts: dict[str, Any]) -> set[str]:
    """Every option of any of a trainer's scripts, without dashes."""
    return {name.lstrip("-") for script in facts["options"].values() for name in script}


def classes(facts: dict[str, Any], *names: str) -> set[str]:
    return {field for name in names for field in facts["arguments"][name]}


# -- keys --


def test_onetrainers_fields_are_its_own():
    """Every field read is one of `TrainConfig`, and every mark too."""
    accepts = facts_of("onetrainer")["accepts"]
    read = keys_of(onetrainer) | onetrainer._MARKS

    assert read <= accepts["fields"].keys()
    assert {"LORA", "LOHA", "LOKR", "OFT_2"} == set(accepts["enums"]["PeftType"])


def test_simpletuners_options_are_its_own():
    """Every option read is one of its parser or an alias, and so is what a variable becomes."""
    accepts = facts_of("simpletuner")["accepts"]
    known = {name.lstrip("-") for name in (*accepts["arguments"]["train"], *accepts["aliases"])}

    assert keys_of(simpletuner) | set(simpletuner.ENVIRONMENT.values()) <= known
    assert known >= simpletuner._MARKS


def test_kohyas_options_are_its_own():
    """Both trainers have every shared option, each its own ones."""
    sd, musubi = options(facts_of("sd_scripts")), options(facts_of("musubi_tuner"))

    assert keys_of(kohya_options) <= sd & musubi
    assert keys_of(sd_scripts) <= sd
    assert keys_of(musubi_tuner) <= musubi
    assert "dit" not in sd


def test_ai_toolkits_fields_are_its_own():
    """Every field read is one of its configuration classes."""
    configuration = facts_of("ai_toolkit")["configuration"]
    known = {f"{part}/{name}" for part, fields in configuration.items() for name in fields}

    assert keys_of(ai_toolkit) <= known


def test_axolotls_fields_are_its_own():
    """Every field read is one of its schema."""
    fields = facts_of("axolotl")["fields"]

    assert keys_of(axolotl) | axolotl._MARKS | {"base_model"} <= fields.keys()


def test_llama_factorys_fields_are_its_own():
    """Every field read is one of its argument classes."""
    facts = facts_of("llama_factory")

    assert keys_of(llama_factory) <= classes(facts, *facts["arguments"])


def test_minicpm_vs_options_are_its_own():
    """Every option read is one of the script's classes; it has no other way to resume."""
    facts = facts_of("minicpm_v")
    known = classes(facts, *facts["arguments"])

    assert set(minicpm_v.KEYS) | set(minicpm_v.SWITCHES) | minicpm_v._MARKS <= known
    assert facts["calls"]["trainer.train"] == []


def test_transformers_arguments_are_its_own():
    """Every field read is one of TrainingArguments, here or in the version before."""
    arguments = pytest.importorskip("transformers").TrainingArguments
    removed_in_5 = {"warmup_ratio"}

    assert HUGGING_FACE - removed_in_5 <= set(arguments.__dataclass_fields__)


# -- values --


def shell(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    return path


def runs_of(name: str) -> list[Any]:
    return [pytest.param(run, id=key) for key, run in facts_of(name)["runs"].items()]


KOHYA = {
    "adapter.rank",
    "adapter.alpha",
    "optimizer.learning_rate",
    "precision.mixed",
    "precision.full_bf16",
    "precision.full_fp16",
    "training.gradient_checkpointing",
    "training.max_grad_norm",
    "training.seed",
}


def agree_all(config: TrainingConfig, run: dict[str, Any], root: Path) -> None:
    """Hold every setting that both the configuration and the checkpoints of its run tell."""
    root.mkdir()
    lay(run.get("files", {}), root)
    for candidate in discover(root):
        told = open_checkpoint(candidate.path).settings
        both = KOHYA & config.settings.keys() & told.keys()
        assert {name: config.settings[name] for name in both} == {name: told[name] for name in both}


@pytest.mark.parametrize("run", runs_of("sd_scripts"))
def test_sd_scripts_command_says_what_its_files_say(run, tmp_path):
    """The command that a run was started by tells the settings that its files carry."""
    script = shell(tmp_path / "train.sh", f"accelerate launch train_network.py {run['arguments']}")
    config = read_config(script)

    assert config.trainer == "sd-scripts"
    agree_all(config, run, tmp_path / "out")


@pytest.mark.parametrize("run", runs_of("musubi_tuner"))
def test_musubis_command_says_what_its_files_say(run, tmp_path):
    """The same for musubi-tuner, known by its options alone."""
    script = shell(tmp_path / "train.sh", f"python src/train.py {run['arguments']}")
    config = read_config(script)

    assert config.trainer == "musubi-tuner"
    agree_all(config, run, tmp_path / "out")


@pytest.mark.parametrize("run", runs_of("minicpm_v"))
def test_minicpm_vs_command_says_what_its_checkpoints_say(run, tmp_path):
    """Its checkpoints carry the Trainer's arguments and the adapter's description."""
    script = shell(tmp_path / "train.sh", f"torchrun finetune.py {run['arguments']}")
    config = read_config(script)

    assert config.trainer == "minicpm-v"
    written = run["files"]["adapter_config.json"]["json"]
    assert json.loads(str(config.settings["adapter.modules_to_save"])) == written["modules_to_save"]
    assert config.settings.get("adapter.rank") in {None, written["r"]}
    assert ("resume.path" in config.settings) == ("--resume_from_checkpoint" in run["arguments"])


@pytest.mark.parametrize("run", runs_of("axolotl"))
def test_axolotls_yaml_is_known(run, tmp_path):
    """The configuration of each real run, as YAML."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(run["configuration"]), encoding="utf-8")
    config = read_config(file)

    assert config.trainer == "axolotl"
    assert config.settings["optimizer.learning_rate"] == run["configuration"]["learning_rate"]
    assert config.settings["precision.mixed"] == "no"
    assert config.settings["adapter.rank"] == 4


@pytest.mark.parametrize("run", runs_of("llama_factory"))
def test_llama_factorys_arguments_are_known(run, tmp_path):
    """The arguments of each real run, as YAML and as a command line, say the same."""
    arguments = run["arguments"]
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(arguments), encoding="utf-8")
    words = [f"--{name}={str(value).lower()}" for name, value in arguments.items()]
    script = shell(tmp_path / "train.sh", shlex.join(["llamafactory-cli", "train", *words]))
    config, called = read_config(file), read_config(script)

    assert config.trainer == called.trainer == "llama-factory"
    assert dict(config.settings) == dict(called.settings)
    assert config.settings["optimizer.learning_rate"] == arguments["learning_rate"]


def test_onetrainers_default_configuration_is_known(tmp_path):
    """What OneTrainer itself writes as its settings."""
    settings = facts_of("onetrainer")["accepts"]["settings"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**settings, "training_method": "LORA"}), encoding="utf-8")
    config = read_config(file)

    assert config.trainer == "onetrainer"
    assert config.settings["precision.adapter"] == "fp32"
    assert config.settings["precision.mixed"] == "fp16"
    assert config.settings["optimizer.name"] == "adamw"


@pytest.mark.parametrize(
    "given", facts_of("onetrainer")["overriding"], ids=lambda one: one["given"]
)
def test_onetrainers_overrides_are_taken_as_it_takes_them(given, tmp_path):
    """A value it does not know is left out by OneTrainer, and is no setting here."""
    name, _, _value = given["given"].partition("=")
    if name != "lora_weight_dtype":
        return
    settings = facts_of("onetrainer")["accepts"]["settings"]
    (tmp_path / "c.json").write_text(json.dumps({**settings, "training_method": "LORA"}))
    line = f"python scripts/train.py --config-path c.json --config-value {given['given']}"
    found = read_config(shell(tmp_path / "train.sh", line)).settings.get("precision.adapter")
    spelled = {"FLOAT_32": "fp32", "BFLOAT_16": "bf16", "FLOAT_16": "fp16"}

    assert found == (None if given["complains"] else spelled[given["becomes"]])


def test_every_reader_says_what_it_looks_for():
    """A configuration nobody knows is answered with what was looked for."""
    assert len({reader.TRAINER for reader in CONFIGS}) == len(CONFIGS)
    assert all(reader.LOOKS_FOR for reader in CONFIGS)
