"""What must hold of `sentinel init`: the trainer is recognised, and its settings can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import command_of

from sentinel.cli.main import cli
from sentinel.config import Config, load_config
from sentinel.errors import ConfigError


def init(place: Path, monkeypatch: pytest.MonkeyPatch, *words: str):
    monkeypatch.chdir(place)
    return CliRunner().invoke(cli, ["init", *words])


@pytest.mark.parametrize(
    ("trainer", "command"),
    [
        ("onetrainer", "python scripts/train.py --config-path train.json"),
        ("simpletuner", "simpletuner train --env config/cat"),
        ("ai-toolkit", "python run.py cat.yaml"),
        ("axolotl", "axolotl train cat.yml"),
        ("llama-factory", "llamafactory-cli train cat.yaml"),
        ("sd-scripts", "accelerate launch train_network.py --config_file cat.toml"),
        ("minicpm-v", "bash finetune_lora.sh"),
    ],
)
def test_the_trainer_of_a_directory_is_recognised(tmp_path, monkeypatch, trainer, command):
    """By the configuration that lies there; the command to start it with is said."""
    command_of(trainer, tmp_path)

    done = init(tmp_path, monkeypatch)

    assert done.exit_code == 0, done.output
    assert f"sentinel run -- {command}" in done.output
    text = (tmp_path / "sentinel.yaml").read_text(encoding="utf-8")
    assert command in text
    assert load_config(None, tmp_path) == Config()


def test_a_command_is_recognised(tmp_path, monkeypatch):
    """Given the command, it is what will be run, and the file says where checkpoints will lie."""
    words = command_of("minicpm-v", tmp_path)

    done = init(tmp_path, monkeypatch, "--", *words)

    assert done.exit_code == 0, done.output
    text = (tmp_path / "sentinel.yaml").read_text(encoding="utf-8")
    assert str(tmp_path / "output" / "lora") in text
    assert "It cannot resume" in text


def test_every_line_that_is_commented_out_may_be_used(tmp_path, monkeypatch):
    """Taken in, the commented settings are valid, and show the defaults."""
    command_of("axolotl", tmp_path)
    init(tmp_path, monkeypatch)
    file = tmp_path / "sentinel.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    settings = [line.removeprefix("# ") for line in lines if line.removeprefix("# ")[:1].islower()]
    file.write_text("\n".join(line for line in settings if ": " in line and "auto:" not in line))

    config = load_config(None, tmp_path)

    assert [hook.process for hook in config.hooks] == ["train.py"]
    names = ("act_on", "state", "hang_after_s", "hooks", "metrics", "notify", "trackers")
    examples = {name: getattr(Config(), name) for name in names}
    assert config.model_copy(update=examples) == Config()


def test_a_file_that_is_there_is_never_overwritten(tmp_path, monkeypatch):
    """Whatever it holds, it stays."""
    command_of("axolotl", tmp_path)
    (tmp_path / "sentinel.yaml").write_text("policy: stop\n", encoding="utf-8")

    done = init(tmp_path, monkeypatch)

    assert isinstance(done.exception, ConfigError)
    assert "are there already" in str(done.exception)
    assert (tmp_path / "sentinel.yaml").read_text(encoding="utf-8") == "policy: stop\n"


@pytest.mark.parametrize("words", [(), ("--", "python", "train.py")])
def test_an_unknown_trainer_is_said(tmp_path, monkeypatch, words):
    """Nothing is written for a trainer that nobody knows."""
    done = init(tmp_path, monkeypatch, *words)

    assert isinstance(done.exception, ConfigError)
    assert not (tmp_path / "sentinel.yaml").exists()


def test_another_directory_and_other_configurations(tmp_path, monkeypatch):
    """The nearest configuration of the directory given is taken, the others are named."""
    place = tmp_path / "there"
    command_of("sd-scripts", place)
    command_of("axolotl", place / "deeper")

    done = init(tmp_path, monkeypatch, "there")

    assert done.exit_code == 0, done.output
    assert "--config_file there/cat.toml" in done.output
    assert "deeper/cat.yml" in done.output
