"""What must hold of recipes: the command is understood, and changed so that the plan wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.repairs.recipes import (
    chosen_checkpoint,
    compose,
    load_recipes,
    output_directory,
    recognise,
)

RECIPES = load_recipes()
(TRAIN,) = [recipe for recipe in RECIPES if recipe.id == "sentinel-train"]


@pytest.mark.parametrize(
    "command",
    [
        ("sentinel-train", "recipe.yaml"),
        ("/opt/venv/bin/sentinel-train", "recipe.yaml"),
        ("python", "-m", "sentinel_trainer.main", "recipe.yaml"),
    ],
)
def test_the_bundled_trainer_is_recognised_however_it_is_started(command):
    """A program's name, its path and `python -m` name the same trainer."""
    assert recognise(command, RECIPES) is TRAIN


def test_an_unknown_trainer_has_no_recipe():
    """Nothing is guessed: an unknown command gets no recipe."""
    assert recognise(("python", "train.py"), RECIPES) is None


def test_the_output_directory_comes_from_the_configuration(tmp_path: Path):
    """Without an option the configuration file's own key tells, relative to the directory."""
    (tmp_path / "recipe.yaml").write_text("output_dir: out/lora\n", encoding="utf-8")

    found = output_directory(TRAIN, ("sentinel-train", "recipe.yaml"), tmp_path)

    assert found == tmp_path / "out" / "lora"


def test_an_assignment_wins_over_the_configuration(tmp_path: Path):
    """`--set output_dir=...` wins, the last of several, and its value is no recipe file."""
    (tmp_path / "recipe.yaml").write_text("output_dir: out\n", encoding="utf-8")
    command = (
        *("sentinel-train", "--set", "training.steps=3", "recipe.yaml"),
        *("--set", "output_dir=a", "--set", "output_dir=b"),
    )

    assert output_directory(TRAIN, command, tmp_path) == tmp_path / "b"


def test_an_unreadable_configuration_is_said(tmp_path: Path):
    """A configuration that is not there cannot tell what to watch: one sentence."""
    with pytest.raises(RepairError, match=r"recipe\.yaml.*cannot be read.*--watch"):
        output_directory(TRAIN, ("sentinel-train", "recipe.yaml"), tmp_path)


def test_the_plan_wins_over_the_users_own_options(tmp_path: Path):
    """The user's --resume is left out, and the plan's settings come last."""
    command = (
        *(
            "sentinel-train",
            "r.yaml",
            "--resume",
            "out/checkpoint-9",
            "--set",
            "adapter.dtype=fp16",
        ),
        "--resume-optimizer=keep",
    )

    changed = compose(
        TRAIN, command, checkpoint=tmp_path / "checkpoint-3", precision="fp32", optimizer="drop"
    )

    assert changed == (
        *("sentinel-train", "r.yaml", "--set", "adapter.dtype=fp16"),
        *("--set", "adapter.dtype=fp32"),
        *("--resume", str(tmp_path / "checkpoint-3"), "--resume-optimizer", "drop"),
    )


def test_a_restart_names_no_checkpoint():
    """From the start there is nothing to resume, and no optimizer state to speak of."""
    changed = compose(
        TRAIN,
        ("sentinel-train", "r.yaml", "--resume", "x"),
        checkpoint=None,
        precision="bf16",
        optimizer="drop",
    )

    assert changed == ("sentinel-train", "r.yaml", "--set", "adapter.dtype=bf16")


def test_the_trainers_own_choice_is_read_from_the_command(tmp_path: Path):
    """The checkpoint a command names is the trainer's own choice; without one there is none."""
    command = ("sentinel-train", "r.yaml", "--resume", "out/checkpoint-9")

    assert chosen_checkpoint(TRAIN, command, tmp_path) == tmp_path / "out" / "checkpoint-9"
    assert chosen_checkpoint(TRAIN, command[:2], tmp_path) is None


def test_a_mistake_in_a_recipe_names_file_and_key(tmp_path: Path):
    """A user's recipe with an unknown key is refused with its name."""
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\ntitle: Mine\nrecognise: [x]\nresme: []\n", encoding="utf-8")

    with pytest.raises(RepairError, match=r"mine\.yaml.*'resme'"):
        load_recipes((path,))
