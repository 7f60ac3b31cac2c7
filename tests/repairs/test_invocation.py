"""What must hold where a user's command is taken apart, and a script's command is changed."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import RepairError
from sentinel.repairs.asking import asked_of
from sentinel.repairs.compose import compose
from sentinel.repairs.invocation import recognise, take_apart
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Recipe, load_recipes
from sentinel.repairs.scripts import SourceWord, read_script

RECIPES = load_recipes()
TOY = {"id": "toy", "title": "Toy", "recognise": ["toy.py"], "output": {"field": "out"}}
WORD = st.one_of(
    st.sampled_from(
        [
            "python",
            "-m",
            "toy.py",
            "--",
            "accelerate",
            "launch",
            "--config",
            "x.yaml",
            "bash",
            "a.sh",
        ]
    ),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
)


def toy(**parts) -> Recipe:
    return Recipe.model_validate(TOY | parts)


@given(st.lists(WORD, max_size=8))
def test_any_command_is_recognised_or_not(words):
    """Whatever a user types: a recipe or none, never an error."""
    found = recognise(words, RECIPES, Path("/nowhere"))

    assert found is None or found in RECIPES


@given(st.lists(WORD, max_size=8))
def test_any_command_is_taken_apart_into_its_own_words(words):
    """No word is lost, and the arguments begin within."""
    parts = take_apart(toy(), words, Path("/nowhere"))

    assert list(parts.words) == words
    assert 0 <= parts.start <= len(words)


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("toy.py --out a", "a"),
        ("python x/toy.py --out=a --out b", "b"),
        ("accelerate launch --out launcher toy.py", None),
        ("python toy.py", None),
    ],
)
def test_only_the_trainers_own_arguments_count(command, out, tmp_path: Path):
    """What stands before the program is the launcher's."""
    found = asked_of(toy(), command.split(), tmp_path).output

    assert found == (None if out is None else tmp_path / out)


def test_a_variable_may_name_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Found by the variable, and the copy is named by it too."""
    (tmp_path / "config" / "cat").mkdir(parents=True)
    (tmp_path / "config" / "cat" / "config.json").write_text('{"out": "a", "lr": 1}')
    monkeypatch.setenv("TOY_ENV", "cat")
    where = {"environment": ["TOY_ENV"], "places": ["config/{told}/config.json"], "directory": True}
    recipe = toy(configuration=where, settings={"optimizer.learning_rate": {"field": "lr"}})
    plan = Plan(
        rules=(),
        target=None,
        target_path=None,
        target_step=0,
        precision=None,
        optimizer="drop",
        reason="",
        steps_lost=None,
        settings={"optimizer.learning_rate": 0.5},
    )

    made = compose(recipe, ["toy.py"], plan, cwd=tmp_path, place=tmp_path / "state" / "2")

    assert asked_of(recipe, ["toy.py"], tmp_path).output == tmp_path / "a"
    assert made.environment == {"TOY_ENV": str(tmp_path / "state" / "2")}
    assert '"lr": 0.5' in made.files[tmp_path / "state" / "2" / "config.json"]


@pytest.mark.parametrize("text", ["[1, 2]", '{"rows": []}', "[" * 50, '{"torn'])
def test_data_is_no_configuration(text, tmp_path: Path):
    """A plain word that ends in .json may be what is trained on: it is left alone."""
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    recipe = toy(configuration={"suffixes": [".json"]})
    command = ["toy.py", "data.json", "--out", "a"]

    assert take_apart(recipe, command, tmp_path).file is None


def test_a_default_place_is_taken_where_nothing_is_named(tmp_path: Path):
    """And is no error where it is not there."""
    recipe = toy(configuration={"default": ["config/config.json"]})
    assert asked_of(recipe, ["toy.py"], tmp_path).output is None

    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text('{"out": "a"}')

    assert asked_of(recipe, ["toy.py"], tmp_path).output == tmp_path / "a"


@pytest.mark.parametrize(
    ("told", "begins"),
    [("latest", "latest"), ("true", "latest"), ("false", None), ("", None), ("none", None)],
)
def test_what_it_begins_from_by_itself(told, begins, tmp_path: Path):
    """A path, its latest, or nothing, as trainers spell these."""
    recipe = toy(picks={"field": "resume"})

    assert asked_of(recipe, ["toy.py", f"--resume={told}"], tmp_path).begins == begins


def test_a_name_in_the_output_directory_is_a_checkpoint(tmp_path: Path):
    """Some trainers take the name alone."""
    (tmp_path / "o" / "checkpoint-20").mkdir(parents=True)
    recipe = toy(picks={"field": "resume"})
    command = ["toy.py", "--out", "o", "--resume", "checkpoint-20"]

    assert asked_of(recipe, command, tmp_path).begins == tmp_path / "o" / "checkpoint-20"


# -- scripts --------------------------------------------------------------------------------------

SCRIPT = """\
#!/bin/bash
# trains a cat
ARGS="--fp16 true"
cd "$HOME" && echo 'toy.py --fake' > /dev/null
python toy.py $ARGS --out "my out" \\
    --lr 1e-4 2>&1 | tee log.txt
echo done
"""


def script(place: Path, text: str = SCRIPT):
    path = place / "train.sh"
    path.write_text(text, encoding="utf-8")
    found = read_script(path)
    assert found is not None
    return found


def test_only_the_trainers_command_is_changed(tmp_path: Path):
    """Quotes, variables, pipes and comments stay as the script has them."""
    found = script(tmp_path)
    words = [word for word in found.command(["toy.py"]) if word not in {"--lr", "1e-4"}]

    text = found.changed(["toy.py"], [*words, "--lr", "2e-4 x"])

    before, after = SCRIPT.splitlines(), text.splitlines()
    assert after[:4] == before[:4]
    assert after[-1] == "echo done"
    assert "python toy.py $ARGS" in text
    assert '--out "my out"' in text
    assert "--lr '2e-4 x' 2>&1 | tee log.txt" in text


def test_a_changed_script_does_what_it_did_with_other_words(tmp_path: Path):
    """Run by a real shell: the trainer hears its own words, and ours in their place."""
    (tmp_path / "toy.py").write_text("import sys; print(sys.argv[1:])", encoding="utf-8")
    text = SCRIPT.replace('cd "$HOME" && ', "").replace(" 2>&1 | tee log.txt", "")
    found = script(tmp_path, text)
    words = [word for word in found.command(["toy.py"]) if word not in {"--lr", "1e-4"}]
    (tmp_path / "changed.sh").write_text(found.changed(["toy.py"], [*words, "--lr", "a b"]))

    done = subprocess.run(
        ["bash", "changed.sh"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    expected = ["--fp16", "true", "--out", "my out", "--lr", "a b"]
    assert done.stdout.splitlines()[-2:] == [str(expected), "done"]


@pytest.mark.skipif(os.name != "posix", reason="a shell is needed")
@given(st.lists(st.text("ab -'\"$\\*~", max_size=5), max_size=4))
def test_added_words_reach_the_trainer_as_they_are(tmp_path_factory, added):
    """Whatever stands in a path or a value, the shell passes it on untouched."""
    words = [SourceWord(word) for word in ("printf", "'%s\\n'")]
    for word in words:
        word.source = str(word)
    found = script(tmp_path_factory.mktemp("script"), "printf '%s\\n' toy.py\n")

    text = found.changed(["toy.py"], [*found.command(["toy.py"]), *added])

    assert shlex.split(text.replace("\\\n", " "))[3:] == added


def test_a_script_without_a_trainer_is_said(tmp_path: Path):
    """One sentence, and what to give instead."""
    with pytest.raises(RepairError, match="holds no command of a trainer"):
        script(tmp_path, "echo hello\n").command(["toy.py"])


@pytest.mark.parametrize("text", ["echo 'never closed", "\udcff"])
def test_what_is_no_script_is_not_taken_for_one(tmp_path: Path, text):
    """A quote that is never closed, bytes that are no text."""
    path = tmp_path / "train.sh"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    assert read_script(path) is None
