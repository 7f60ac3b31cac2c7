# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""A resumed training goes on as if uninterrupted, or changes exactly what it was told to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading

import pytest

pytestmark = pytest.mark.trainer


def weights_of(checkpoint):
    from safetensors.torch import load_file

    return load_file(checkpoint / "adapter_model.safetensors")


def manifest_of(checkpoint):
    return json.loads((checkpoint / "sentinel_manifest.json").read_text())


def row_of(told, setting):
    """What the printed table says of a setting: value, who wins, over whom."""
    (line,) = (line for line in told.splitlines() if line.split()[:1] == [setting])
    return " ".join(line.split()[1:])


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("step", [2, 4])
def test_a_resume_repeats_the_uninterrupted_run_bit_for_bit(train, tmp_path, losses, dtype, step):
    """Over an epoch's end, with dropout, a falling rate and the optimizer's memory."""
    settings = {"adapter__dtype": dtype, "training__steps": 8, "training__batch_size": 16}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, **settings) == 0
    assert manifest_of(whole / "checkpoint-8")["epoch"] > 1
    assert train(parts, "--resume", whole / f"checkpoint-{step}", **settings) == 0
    expected = {at: loss for at, loss in losses(whole).items() if at > step}
    assert expected == losses(parts)
    ends = [weights_of(place / "checkpoint-8") for place in (whole, parts)]
    assert all((ends[0][key] == ends[1][key]).all() for key in ends[0])
    assert manifest_of(parts / "checkpoint-8")["updates_done"] == 8


def test_a_changed_precision_casts_the_weights_and_drops_the_optimizer(
    train, tmp_path, capsys, losses
):
    """The first loss is that of the saved weights, on the data an uninterrupted run sees."""
    import torch

    half, full = tmp_path / "half", tmp_path / "full"
    still = {"adapter__dropout": 0, "adapter__dtype": "bf16"}
    assert train(half, **still) == 0
    capsys.readouterr()
    options = ("--resume", half / "checkpoint-2")
    assert train(full, *options, adapter__dropout=0, adapter__dtype="fp32") == 0
    told = capsys.readouterr().out
    assert row_of(told, "adapter.dtype") == "fp32 --set checkpoint: bf16"
    assert "optimizer state: dropped (it was made in bf16)" in told
    tensors = weights_of(full / "checkpoint-6")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert list(losses(full)) == [3, 4, 5, 6]
    assert losses(full)[3] == pytest.approx(losses(half)[3], rel=1e-2)
    state = torch.load(full / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert {int(value["step"]) for value in state["state"].values()} == {2}
    rates = [json.loads(line) for line in (full / "metrics.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (half / "metrics.jsonl").read_text().splitlines()]
    assert rates[0]["learning_rate"] == before[2]["learning_rate"]
    manifest = manifest_of(full / "checkpoint-6")
    assert manifest["resumed_from"] == {"path": str(half / "checkpoint-2"), "step": 2}
    assert manifest["updates_done"] == 6


def test_a_changed_rate_takes_effect_though_the_optimizer_is_kept(train, finished, tmp_path):
    """Transformers alone would go on with the saved rate."""
    options = ("--resume", finished / "checkpoint-2")
    assert train(tmp_path, *options, training__learning_rate="5e-4") == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["learning_rate"] == pytest.approx(5e-4 * 4 / 6)


def test_changed_intervals_take_effect(train, finished, tmp_path):
    options = ("--resume", finished / "checkpoint-2")
    assert train(tmp_path, *options, training__save_every=3, training__log_every=2) == 0
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-3",
        "checkpoint-6",
    ]


def test_what_the_recipe_leaves_out_is_inherited(train, tmp_path, capsys):
    """The seed of the first start was given by an option; the resume does not repeat it."""
    assert train(tmp_path / "a", training__seed=5, training__steps=2) == 0
    capsys.readouterr()
    options = ("--resume", tmp_path / "a" / "checkpoint-2", "--print-plan")
    assert train(tmp_path / "b", *options) == 0
    told = capsys.readouterr().out
    assert row_of(told, "training.seed") == "5 checkpoint (inherited)"
    assert row_of(told, "training.steps") == "6 recipe checkpoint: 2"


def test_an_adapter_can_be_the_beginning_of_another_run(train, finished, tmp_path, losses):
    """--init-lora takes the weights and nothing else."""
    assert train(tmp_path, "--init-lora", finished / "checkpoint-6", training__steps=2) == 0
    assert list(losses(tmp_path)) == [1, 2]
    manifest = manifest_of(tmp_path / "checkpoint-2")
    assert (manifest["step"], manifest["updates_done"]) == (2, 2)
    assert manifest["initialised_from"] == str(finished / "checkpoint-6")
    assert manifest["resumed_from"] is None
    start, end = weights_of(finished / "checkpoint-6"), weights_of(tmp_path / "checkpoint-2")
    moved = max((start[key] - end[key]).abs().max().item() for key in start)
    assert 0 < moved < 3e-3  # AdamW moves by about the rate a step: two steps at 1e-3


def test_later_checkpoints_are_moved_aside_and_said(train, finished, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert train(out, "--resume", out / "checkpoint-2") == 0
    assert "moved checkpoint-4, checkpoint-6 to" in capsys.readouterr().out
    kept = sorted(path.name for path in out.glob("superseded-*/*"))
    assert kept == ["checkpoint-4", "checkpoint-6"]
    old = next(out.glob("superseded-*/checkpoint-6/sentinel_manifest.json"))
    assert old.read_bytes() == (finished / "checkpoint-6/sentinel_manifest.json").read_bytes()
    assert manifest_of(out / "checkpoint-6")["resumed_from"]["step"] == 2
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 6 + 4


def test_a_fresh_start_moves_everything_aside(train, finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    assert train(out, training__steps=2) == 0
    assert len(list(out.glob("superseded-*/checkpoint-*"))) == 3
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-2"]


def test_a_finished_run_is_left_alone(train, finished, capsys):
    before = sorted(finished.rglob("*"))
    assert train(finished, "--resume", finished / "checkpoint-6") == 0
    assert "nothing to do: step 6 of 6" in capsys.readouterr().out
    assert sorted(finished.rglob("*")) == before


@pytest.mark.parametrize(
    ("key", "value"), [("rank", "3"), ("method", "dora"), ("target_modules", "all-linear")]
)
def test_another_adapter_is_refused(  # noqa: PLR0917 - fixtures, and a case of two
    train, finished, tmp_path, capsys, key, value
):
    setting = {f"adapter__{key}": value}
    assert train(tmp_path, "--resume", finished / "checkpoint-2", **setting) == 2
    assert f"adapter.{key} is" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_base_is_refused(part, train, finished, tmp_path, capsys):
    part("tiny_base").build(tmp_path / "base", steps=0, seed=1)
    options = ("--resume", finished / "checkpoint-2")
    assert train(tmp_path / "out", *options, base__model=tmp_path / "base") == 2
    assert "is not the base it was trained on" in capsys.readouterr().err


def test_a_torn_adapter_is_refused(train, finished, tmp_path, capsys):
    torn = tmp_path / "checkpoint-2"
    shutil.copytree(finished / "checkpoint-2", torn)
    weights = torn / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert train(tmp_path / "out", "--resume", torn) == 2
    assert "adapter_model.safetensors can't be read" in capsys.readouterr().err


def test_half_an_adapter_is_refused(train, finished, tmp_path, capsys):
    from safetensors.torch import save_file

    half = tmp_path / "checkpoint-2"
    shutil.copytree(finished / "checkpoint-2", half)
    tensors = weights_of(half)
    tensors.popitem()
    save_file(tensors, half / "adapter_model.safetensors")
    assert train(tmp_path / "out", "--resume", half) == 2
    assert "1 tensors missing, 0 unknown" in capsys.readouterr().err


def test_an_optimizer_state_that_is_not_there_can_not_be_kept(train, finished, tmp_path, capsys):
    bare = tmp_path / "checkpoint-2"
    shutil.copytree(finished / "checkpoint-2", bare)
    (bare / "optimizer.pt").unlink()
    options = ("--resume", bare, "--resume-optimizer")
    assert train(tmp_path / "out", *options, "keep") == 2
    assert "the checkpoint has no optimizer state" in capsys.readouterr().err
    assert train(tmp_path / "out", "--resume", bare) == 0
    assert "optimizer state: dropped (the checkpoint has none)" in capsys.readouterr().out


class Trap(threading.Thread):
    """Send SIGTERM to ourselves as soon as something was logged."""

    def __init__(self, output_dir):
        super().__init__()
        self.metrics = output_dir / "metrics.jsonl"

    def run(self):
        while not self.metrics.exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_finishes_the_step_saves_and_ends(train, tmp_path):
    """The signal comes with the first log; what is saved can be resumed."""
    trap = Trap(tmp_path)
    trap.start()
    usual = signal.getsignal(signal.SIGTERM)
    code = train(tmp_path, training__steps=100000, training__save_every=100000)
    trap.join()
    assert code == 143
    assert signal.getsignal(signal.SIGTERM) is usual
    (checkpoint,) = tmp_path.glob("checkpoint-*")
    step = manifest_of(checkpoint)["step"]
    assert train(tmp_path, "--resume", checkpoint, training__steps=step + 1) == 0
    assert (tmp_path / f"checkpoint-{step + 1}" / "sentinel_manifest.json").exists()


def test_sigterm_does_not_wait_for_an_evaluation(train, tmp_path):
    """One over thousands of blocks is left; step 1, after which it came, is saved."""
    trap = Trap(tmp_path)
    trap.start()
    evaluation = {"data__eval_files": "[python-stdlib:argparse.py]", "training__eval_every": 1}
    code = train(tmp_path, **evaluation, training__save_every=100, training__steps=100)
    trap.join()
    assert code == 143
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    assert "eval_loss" not in (tmp_path / "metrics.jsonl").read_text()
