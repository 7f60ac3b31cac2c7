"""What must hold of recipes: the command is understood, and changed so that the plan wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.errors import RepairError
from sentinel.formats.configs.registry import CONFIGS
from sentinel.formats.setting_names import is_known
from sentinel.repairs.asking import asked_of
from sentinel.repairs.compose import compose
from sentinel.repairs.invocation import recognise
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import load_recipes

RECIPES = load_recipes()
(TRAIN,) = [recipe for recipe in RECIPES if recipe.id == "sentinel-train"]


def plan(**parts) -> Plan:
    facts = {
        "rules": ("nan-values",),
        "target": None,
        "target_path": None,
        "target_step": 0,
        "precision": None,
        "optimizer": "drop",
        "reason": "",
        "steps_lost": None,
    }
    return Plan(**(facts | parts))


def composed(command, place: Path, **parts) -> tuple[str, ...]:
    (place / "r.yaml").write_text("output_dir: out\n", encoding="utf-8")
    return compose(TRAIN, command, plan(**parts), cwd=place, place=place / "state").command


@pytest.mark.parametrize(
    "command",
    [
        ("sentinel-train", "recipe.yaml"),
        ("/opt/venv/bin/sentinel-train", "recipe.yaml"),
        ("python", "-m", "sentinel_trainer.main", "recipe.yaml"),
    ],
)
def test_the_bundled_trainer_is_recognised_however_it_is_started(command, tmp_path: Path):
    """A program's name, its path and `python -m` name the same trainer."""
    assert recognise(command, RECIPES, tmp_path) is TRAIN


@pytest.mark.parametrize("command", [("python", "train.py"), ("bash", "gone.sh"), ("bash",), ()])
def test_an_unknown_trainer_has_no_recipe(command, tmp_path: Path):
    """Nothing is guessed: an unknown command gets no recipe."""
    assert recognise(command, RECIPES, tmp_path) is None


def test_the_output_directory_comes_from_the_configuration(tmp_path: Path):
    """Without an option the configuration file's own key tells, relative to the directory."""
    (tmp_path / "recipe.yaml").write_text("output_dir: out/lora\n", encoding="utf-8")

    found = asked_of(TRAIN, ("sentinel-train", "recipe.yaml"), tmp_path)

    assert found.output == tmp_path / "out" / "lora"


def test_an_assignment_wins_over_the_configuration(tmp_path: Path):
    """`--set output_dir=...` wins, the last of several, and its value is no recipe file."""
    (tmp_path / "recipe.yaml").write_text("output_dir: out\n", encoding="utf-8")
    command = (
        *("sentinel-train", "--set", "training.steps=3", "recipe.yaml"),
        *("--set", "output_dir=a", "--set", "output_dir=b"),
    )

    assert asked_of(TRAIN, command, tmp_path).output == tmp_path / "b"


def test_an_unreadable_configuration_is_said(tmp_path: Path):
    """A configuration that is not there cannot tell what to watch: one sentence."""
    with pytest.raises(RepairError, match=r"recipe\.yaml.*cannot be read.*--watch"):
        asked_of(TRAIN, ("sentinel-train", "recipe.yaml"), tmp_path)


def test_the_plan_wins_over_the_users_own_options(tmp_path: Path):
    """The user's --resume is left out, and the plan's settings come last."""
    command = (
        *("sentinel-train", "r.yaml", "--resume", "out/checkpoint-9"),
        *("--set", "adapter.dtype=fp16", "--resume-optimizer=keep"),
    )
    target = str(tmp_path / "checkpoint-3")

    changed = composed(command, tmp_path, target="c3", target_path=target, precision="fp32")

    assert changed == (
        *("sentinel-train", "r.yaml", "--set", "adapter.dtype=fp16"),
        *("--set", "adapter.dtype=fp32"),
        *("--resume", target, "--resume-optimizer", "drop"),
    )


def test_a_restart_names_no_checkpoint(tmp_path: Path):
    """From the start there is nothing to resume, and no optimizer state to speak of."""
    changed = composed(("sentinel-train", "r.yaml", "--resume", "x"), tmp_path, precision="bf16")

    assert changed == ("sentinel-train", "r.yaml", "--set", "adapter.dtype=bf16")


def test_settings_are_told_by_their_fields(tmp_path: Path):
    """A rate and an optimizer's argument become what the bundled trainer calls them."""
    settings = {"optimizer.learning_rate": 5e-4, "optimizer.args.scale_parameter": False}

    changed = composed(("sentinel-train", "r.yaml"), tmp_path, settings=settings)

    assert changed == (
        *("sentinel-train", "r.yaml", "--set", "training.learning_rate=0.0005"),
        *("--set", "training.optimizer.args.scale_parameter=false"),
    )


def test_the_trainers_own_choice_is_read_from_the_command(tmp_path: Path):
    """The checkpoint a command names is the trainer's own choice; without one there is none."""
    (tmp_path / "r.yaml").write_text("output_dir: out\n", encoding="utf-8")
    command = ("sentinel-train", "r.yaml", "--resume", "out/checkpoint-9")

    assert asked_of(TRAIN, command, tmp_path).begins == tmp_path / "out" / "checkpoint-9"
    assert asked_of(TRAIN, command[:2], tmp_path).begins is None


def test_a_mistake_in_a_recipe_names_file_and_key(tmp_path: Path):
    """A user's recipe with an unknown key is refused with its name."""
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\ntitle: Mine\nrecognise: [x]\nresme: []\n", encoding="utf-8")

    with pytest.raises(RepairError, match=r"mine\.yaml.*'resme'"):
        load_recipes((path,))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.id)
def test_a_recipe_speaks_of_settings_and_readers_that_there_are(recipe):
    """A name with a typing error would change nothing, or be checked nowhere."""
    assert recipe.reads in {reader.TRAINER for reader in CONFIGS}
    names = {name.replace("*", "x") for name in recipe.settings}
    names |= {name for name in (recipe.effect.precision, recipe.effect.compute) if name}
    assert [name for name in names if not is_known(name)] == []


def test_every_reader_of_configurations_has_a_recipe():
    """What `sentinel check` reads, `sentinel run` can repair."""
    assert {reader.TRAINER for reader in CONFIGS} == {recipe.reads for recipe in RECIPES}
