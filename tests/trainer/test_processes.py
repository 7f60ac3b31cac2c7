# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""Two processes, started by torchrun, train as one; their checkpoints go on with one and back."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.trainer

DROPOUT = ("--set", "adapter.dropout=0")


@pytest.fixture(scope="module")
def two(launched, many, wide, tmp_path_factory):
    """What two processes made: a run, one resumed from `wide`, and checkpoints that failed."""
    root = tmp_path_factory.mktemp("two")
    run, resumed = root / "run", root / "resumed"
    done = launched(
        root,
        many.words(run),
        many.words(resumed, "--resume", wide / "checkpoint-2"),
        many.words(root / "none", "--set", "training.stepz=1"),
        ["stage", str(root / "staged"), "1"],
        ["stage", str(root / "staged"), "finish"],
        ["stage", str(root / "staged"), "nobody"],
    )
    return SimpleNamespace(run=run, resumed=resumed, root=root, **vars(done))


def test_every_start_ends_in_all_processes_alike(two):
    assert [codes[:3] for codes in two.codes] == [[0, 0, 2], [0, 0, 2]]


def test_two_processes_train_as_one_that_accumulates(two, wide, losses):
    assert losses(two.run) == pytest.approx(losses(wide), rel=1e-5)


def test_a_checkpoint_of_one_process_goes_on_with_two(two, wide, losses):
    before = losses(wide)
    assert losses(two.resumed) == pytest.approx(
        {step: before[step] for step in (3, 4, 5, 6)}, rel=1e-5
    )
    assert "processes: 2 (the checkpoint had 1)" in two.out


def test_a_checkpoint_of_two_processes_goes_on_with_one(two, train, losses, tmp_path, capsys):
    """The optimizer's state and the place in the data are kept, and so are samples a step."""
    assert train(tmp_path, *DROPOUT, "--resume", two.run / "checkpoint-2") == 0
    said = capsys.readouterr().out
    assert "training.gradient_accumulation 2 keeps 4 samples a step" in said
    before = losses(two.run)
    assert losses(tmp_path) == pytest.approx(
        {step: before[step] for step in (3, 4, 5, 6)}, rel=1e-5
    )


def test_only_the_first_process_speaks(two):
    """Refusals too: every process meets the same."""
    assert two.err.count("unknown key 'training.stepz'") == 1
    assert len([line for line in two.out.splitlines() if line.startswith("step 6/6")]) == 2
    assert two.out.count("lora rank 2 in fp32") == 2


def test_a_checkpoint_holds_every_process_and_one_manifest(two):
    checkpoint = two.run / "checkpoint-4"
    manifest = json.loads((checkpoint / "sentinel_manifest.json").read_text())
    assert manifest["processes"] == {
        "count": 2,
        "samples_a_step": 4,
        "engine": "ddp",
        "zero_stage": None,
    }
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt"} <= manifest["files"].keys()
    for name, entry in manifest["files"].items():
        assert (checkpoint / name).stat().st_size == entry["size_bytes"]
    names = sorted(path.name for path in two.run.iterdir())
    assert names == ["checkpoint-2", "checkpoint-4", "checkpoint-6", "metrics.jsonl"]
    lines = (two.run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_sentinel_reads_what_two_processes_wrote(two):
    from sentinel.formats.opening import open_checkpoint

    checkpoint = open_checkpoint(two.run / "checkpoint-6")
    assert checkpoint.faults == ()
    assert (checkpoint.layout, checkpoint.step) == ("sentinel-train", 6)


def test_a_checkpoint_that_one_process_can_not_fill_is_nobodys(two):
    """Neither a half checkpoint stays nor a process that waits for ever."""
    assert [codes[3] for codes in two.codes] == ["ChildProcessError", "OSError"]
    assert [codes[4] for codes in two.codes] == ["OSError", "ChildProcessError"]
    assert [codes[5] for codes in two.codes] == ["whole", "whole"]
    staged = two.root / "staged"
    assert [path.name for path in staged.iterdir()] == ["checkpoint-9"]
    assert sorted(path.name for path in (staged / "checkpoint-9").iterdir()) == [
        "last",
        "of-0",
        "of-1",
    ]


def test_samples_a_step_change_when_they_must_or_are_asked_to(part, recipe_file):
    """Gradient accumulation makes up for processes only where it divides, and --set wins."""
    files = part("recipe_file")
    settings = files.with_option(files.read_settings(recipe_file), "output_dir=out")
    recipe = files.check(settings, "recipe")
    rescaled = part("scaling").rescaled
    before = {"count": 3, "samples_a_step": 12}

    def accumulation(count, before=before, **given):
        changed, lines = rescaled(recipe, before, count, {"training": given} if given else {})
        return changed.training.gradient_accumulation, " ".join(lines)

    assert accumulation(3) == (1, "")
    assert accumulation(1)[0] == 6
    assert accumulation(2)[0] == 3
    accumulated, said = accumulation(4)
    assert accumulated == 1
    assert said.endswith("8 samples a step instead of 12: they take a multiple of 8")
    accumulated, said = accumulation(2, batch_size=2)
    assert accumulated == 1
    assert said.endswith("4 samples a step instead of 12 (--set wins)")
    assert accumulation(6)[1].endswith("12 samples a step as before")
    assert accumulation(2, before={})[1] == ""
