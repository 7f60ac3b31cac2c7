"""A training can be told its length in passes over the data instead of steps."""

from __future__ import annotations

import json

import pytest
import yaml

from sentinel.formats.opening import open_checkpoint

pytestmark = pytest.mark.trainer

ROWS = 55
"""Blocks of 32 tokens that the recipe's text makes; a test holds it."""


def manifest_of(checkpoint):
    return json.loads((checkpoint / "sentinel_manifest.json").read_text())


def state_of(checkpoint):
    return json.loads((checkpoint / "trainer_state.json").read_text())


@pytest.fixture(scope="module")
def passes(train, tmp_path_factory):
    """Two passes over the data, in four steps each."""
    out = tmp_path_factory.mktemp("passes")
    assert train(out, training__epochs=2, training__batch_size=16) == 0
    return out


@pytest.fixture
def lasting(recipe_file, tmp_path):
    """Write the recipe with another length than its own."""

    def write(length):
        content = yaml.safe_load(recipe_file.read_text())
        del content["training"]["steps"]
        content["training"] |= length
        content["data"]["files"] = str(recipe_file.parent / "text.txt")
        path = tmp_path / "lasting.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_epochs_become_steps_of_the_data_and_the_manifest_has_both(passes):
    """The rate falls over the whole length, and the checkpoints end with the last step."""
    manifest = manifest_of(passes / "checkpoint-8")
    assert manifest["data"]["samples"] == ROWS
    training = manifest["recipe"]["training"]
    assert (training["epochs"], training["steps"]) == (2.0, 8)
    assert manifest["epoch"] == 2.0
    state = state_of(passes / "checkpoint-8")
    assert (state["max_steps"], state["num_train_epochs"]) == (8, 2)
    shown = open_checkpoint(passes / "checkpoint-8").settings
    assert (shown["training.epochs"], shown["training.max_steps"]) == (2, 8)
    lines = [json.loads(line) for line in (passes / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    rates = [line["learning_rate"] for line in lines]
    assert rates == pytest.approx([1e-3 * (8 - step) / 8 for step in range(8)])


def test_epochs_train_what_as_many_steps_train(train, passes, tmp_path, losses):
    assert train(tmp_path, training__steps=8, training__batch_size=16) == 0
    assert losses(tmp_path) == losses(passes)


@pytest.mark.parametrize(
    ("epochs", "batch", "accumulation"), [(1.0, 16, 3), (0.5, 7, 1), (2.5, 8, 2), (1e-6, 4, 1)]
)
def test_the_steps_are_those_that_transformers_counts(part, tmp_path, epochs, batch, accumulation):
    """Its Trainer is asked with num_train_epochs and a loader of the same rows."""
    from torch.nn import Linear  # noqa: PLC0415 - torch is slow
    from torch.utils.data import DataLoader  # noqa: PLC0415 - torch is slow
    from transformers import Trainer, TrainingArguments  # noqa: PLC0415

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        use_cpu=True,
    )
    trainer = Trainer(model=Linear(1, 1), args=arguments)
    loader = DataLoader(list(range(ROWS)), batch_size=batch)
    expected = trainer.set_initial_training_values(arguments, loader)[-1]

    training = part("sections.training").Training(
        epochs=epochs, batch_size=batch, gradient_accumulation=accumulation
    )
    assert part("length").steps_of(training, ROWS, 1) == expected


def test_processes_share_the_rows_of_a_pass(part):
    """55 rows in batches of 4 are 14 batches: 7 for each of two, 5 for each of three."""
    training = part("sections.training").Training(epochs=1, batch_size=4)
    assert [part("length").steps_of(training, ROWS, count) for count in (1, 2, 3)] == [14, 7, 5]


def test_a_resume_goes_on_to_the_end_of_the_epochs(train, passes, tmp_path, losses):
    """The length is inherited as epochs; the losses are those of the uninterrupted run."""
    settings = {"training__epochs": 2, "training__batch_size": 16}
    assert train(tmp_path, "--resume", passes / "checkpoint-4", **settings) == 0
    expected = {step: loss for step, loss in losses(passes).items() if step > 4}
    assert losses(tmp_path) == expected


def test_a_resume_inherits_epochs_and_says_what_puts_them_aside(
    train, passes, lasting, tmp_path, capsys
):
    """Without a length of its own a recipe takes the checkpoint's epochs, not their steps."""
    silent = lasting({})
    resume = ("--resume", passes / "checkpoint-4", "--print-plan")

    assert train(tmp_path / "out", *resume, recipe=silent) == 0
    told = capsys.readouterr().out
    plan = yaml.safe_load(told[told.index("output_dir:") :])
    assert (plan["training"]["epochs"], plan["training"]["steps"]) == (2.0, None)
    assert "training.epochs" in told.partition("output_dir:")[0]

    assert train(tmp_path / "out", *resume, recipe=silent, training__steps=5) == 0
    told = capsys.readouterr().out
    plan = yaml.safe_load(told[told.index("output_dir:") :])
    assert (plan["training"]["epochs"], plan["training"]["steps"]) == (None, 5)
    row = next(line for line in told.splitlines() if line.split()[:1] == ["training.epochs"])
    assert row.split() == ["training.epochs", "-", "--set", "checkpoint:", "2.0"]


def test_nothing_is_done_where_the_epochs_are_over(train, passes, tmp_path, capsys):
    """It is known only when the data are, and then nothing was written yet."""
    settings = {"training__epochs": 1, "training__batch_size": 16}
    assert train(tmp_path / "out", "--resume", passes / "checkpoint-4", **settings) == 0
    assert "nothing to do: step 4 of 4 is done" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        ({}, "says neither steps nor epochs: give one of them"),
        ({"steps": 5, "epochs": 1}, "says both steps and epochs: leave one of them out"),
        ({"epochs": 0}, "'training.epochs' is 0: input should be greater than 0"),
    ],
)
def test_a_recipe_gives_one_length(train, lasting, capsys, length, sentence):
    recipe = lasting(length)
    assert train(recipe.parent / "out", recipe=recipe) == 2
    assert sentence in capsys.readouterr().err


def test_a_warm_up_longer_than_the_epochs_is_refused_before_the_model(train, tmp_path, capsys):
    settings = {"training__epochs": 1, "training__batch_size": 16, "training__warmup_steps": 5}
    assert train(tmp_path / "out", **settings) == 2
    assert "warmup_steps 5 is more than the 4 steps of the epochs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_recipe_file_is_read_once(train, recipe_file, tmp_path, monkeypatch, part):
    """What is trained, and who is said to have won, are of the same text."""
    main, reads = part("main"), []
    real = main.read_settings
    monkeypatch.setattr(main, "read_settings", lambda path: reads.append(path) or real(path))
    assert train(tmp_path / "out", "--print-plan", training__seed=7) == 0
    assert reads == [recipe_file]
