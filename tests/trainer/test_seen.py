# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""What is seen of a training while it runs, and who won where two settings met."""

from __future__ import annotations

import io
import json

import pytest

pytestmark = pytest.mark.trainer


def test_metrics_tell_tokens_time_and_memory(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["tokens"] for line in lines] == [2 * 32 * step for step in range(1, 7)]
    assert all(line["tokens_per_s"] > 0 and line["memory_bytes"] > 1 << 20 for line in lines)
    assert lines[-1]["eta_s"] == 0


def test_a_line_tells_loss_rate_speed_time_left_and_memory(part):
    logs = {
        "loss": 1.23456,
        "grad_norm": 0.5,
        "learning_rate": 2e-4,
        "tokens_per_s": 12345.6,
        "eta_s": 3723.0,
        "memory_bytes": 3 << 30,
    }
    told = part("progress").describe_log(5, 60, logs)
    assert told == (
        "step 5/60  loss 1.235  grad norm 0.5  lr 0.0002  12,346 tokens/s  1:02:03 left  3.0 GiB"
    )
    assert part("progress").describe_log(5, 60, {"train_runtime": 3.0}) == ""


def test_padding_is_no_token(part):
    import torch

    speed = part("progress").Speed()
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    speed.count({"input_ids": torch.zeros(2, 3), "attention_mask": mask})
    speed.count({"input_ids": torch.zeros(1, 4)})
    assert speed.tokens == 3 + 4


def test_a_terminal_gets_a_bar_with_the_last_log(train, tmp_path, monkeypatch, capsys):
    """Standard error is what a bar is drawn on; the figures stand behind it."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert train(tmp_path, training__steps=2, training__save_every=2) == 0
    drawn = terminal.getvalue()
    assert "2/2" in drawn
    assert "tokens/s" in drawn
    assert "loss" in drawn
    assert "step 1/2" not in capsys.readouterr().out


def test_tensorboard_gets_what_is_logged(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"training__steps": 2, "training__tensorboard": "null"}
    assert train(tmp_path, **settings) == 0
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seen = [event.value for event in events.Scalars("train/loss")]
    assert seen == pytest.approx([line["loss"] for line in lines])
    assert "train/tokens_per_s" in events.Tags()["scalars"]


def test_the_table_says_who_wins(part):
    """An option over the file, both over the checkpoint; the default over what is dropped."""
    recipe = part("recipe_file").check(
        {
            "output_dir": "out",
            "base": {"model": "m"},
            "adapter": {"rank": 4, "target_modules": ["a"]},
            "data": {"files": ["x"]},
            "training": {"steps": 9, "seed": 3, "save_every": 7},
        },
        "recipe",
    )
    options = {"training": {"steps": 9}}
    file = {"training": {"steps": 5}, "adapter": {"rank": 4, "target_modules": ["a"]}}
    checkpoint = {
        "training": {"steps": 5, "seed": 3, "save_every": 7, "learning_rate": 0.1},
        "adapter": {"rank": 8, "target_modules": ["a"]},
    }
    precedence = part("precedence")
    found = precedence.choices(recipe, options, file, checkpoint)
    told = {each.key: (each.value, each.source, each.over) for each in found}
    assert told == {
        "adapter.rank": (4, "recipe", ("checkpoint", 8)),
        "training.steps": (9, "--set", ("recipe", 5)),
        "training.seed": (3, "checkpoint", None),
        "training.save_every": (7, "checkpoint", None),
        "training.learning_rate": (None, "default", ("checkpoint", 0.1)),
    }
    lines = precedence.table(found)
    assert lines[0].split() == ["setting", "value", "who", "wins", "over"]
    assert lines[0].index("who wins") == lines[1].index("recipe")


def test_a_fresh_start_tells_what_an_option_overrides(train, tmp_path, capsys):
    assert train(tmp_path, "--print-plan", training__batch_size=7) == 0
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if "training.batch_size" in line)
    assert line.split() == ["training.batch_size", "7", "--set", "recipe:", "2"]


def test_other_data_is_said_at_a_resume(train, finished, tmp_path, capsys):
    (tmp_path / "other.txt").write_text("another text altogether\n" * 40)
    options = ("--resume", finished / "checkpoint-4")
    assert train(tmp_path / "out", *options, data__files=tmp_path / "other.txt") == 0
    assert "data: not those of the checkpoint (55 rows then, 30 now)" in capsys.readouterr().out
    assert train(tmp_path / "same", *options) == 0
    assert "data: not" not in capsys.readouterr().out


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_changed_quantisation_of_the_base_is_said_and_trains_on(
    train, finished, tmp_path, capsys, losses, *, quantization
):
    """The optimizer is kept; the first loss is near that of the run on the plain base."""
    options = ("--resume", finished / "checkpoint-4")
    assert train(tmp_path, *options, base__quantization=quantization) == 0
    told = capsys.readouterr().out
    (line,) = (line for line in told.splitlines() if line.split()[:1] == ["base.quantization"])
    assert line.split()[1:] == [quantization, "--set", "checkpoint:", "none"]
    assert "optimizer state: kept" in told
    assert losses(tmp_path)[5] == pytest.approx(losses(finished)[5], rel=2e-2)
