# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""FSDP2, ZeRO, the launchers and signals: several processes on the processor, by gloo."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import psutil
import pytest

pytestmark = [pytest.mark.trainer]

DROPOUT = ("--set", "adapter.dropout=0")
AFTER = (3, 4, 5, 6)


@pytest.fixture
def resume(train, losses, tmp_path, capsys):
    """Go on with one process, and return its losses and what it said."""

    def call(checkpoint):
        out = tmp_path / f"one-{checkpoint.parent.name}"
        assert train(out, *DROPOUT, "--resume", checkpoint) == 0
        return losses(out), capsys.readouterr().out

    return call


def losses_of(output_dir):
    lines = (output_dir / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def state_of(checkpoint):
    import torch

    return torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]


def same_state(left, right, tolerance):
    import torch

    assert left.keys() == right.keys()
    for at, entry in left.items():
        assert entry.keys() == right[at].keys()
        for key, value in entry.items():
            torch.testing.assert_close(value, right[at][key], rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_fsdp2_writes_what_one_process_would_and_goes_on_from_it(
    launched, many, wide, resume, tmp_path
):
    """Weights and optimizer state are whole in the file, on the way out and back in."""
    run, resumed = tmp_path / "run", tmp_path / "resumed"
    before = wide / "checkpoint-2"
    done = launched(
        tmp_path,
        ["fsdp2", *many.words(run)],
        ["fsdp2", *many.words(resumed, "--resume", before)],
    )
    assert done.codes == [[0, 0], [0, 0]]
    expected = losses_of(wide)
    assert losses_of(run) == pytest.approx(expected, rel=1e-5)
    assert losses_of(resumed) == pytest.approx({step: expected[step] for step in AFTER}, rel=1e-5)
    same_state(state_of(run / "checkpoint-4"), state_of(wide / "checkpoint-4"), 1e-6)
    one, _ = resume(run / "checkpoint-2")
    assert one == pytest.approx({step: expected[step] for step in AFTER}, rel=1e-5)
    manifest = json.loads((run / "checkpoint-6" / "sentinel_manifest.json").read_text())
    assert manifest["processes"]["engine"] == "fsdp2"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_keeps_its_parts_and_the_whole_state_beside_them(launched, many, wide, resume, stage):
    """DeepSpeed goes on from its own parts, one process from the whole; sentinel reads both."""
    pytest.importorskip("deepspeed")
    from sentinel.formats.opening import open_checkpoint

    root = wide.with_name(f"zero-{stage}")
    root.mkdir()
    run, resumed = root / "run", root / "resumed"
    zero = ["--set", "parallel.engine=deepspeed", "--set", f"parallel.zero_stage={stage}"]
    done = launched(root, many.words(run, *zero))
    assert done.codes == [[0], [0]]
    expected = losses_of(wide)
    after = {step: expected[step] for step in AFTER}
    assert losses_of(run) == pytest.approx(expected, rel=1e-4)
    same_state(state_of(run / "checkpoint-4"), state_of(wide / "checkpoint-4"), 1e-5)
    checkpoint = open_checkpoint(run / "checkpoint-4")
    assert checkpoint.faults == ()
    assert any("zero_pp_rank_1" in member.path for member in checkpoint.members)

    done = launched(root, many.words(resumed, *zero, "--resume", run / "checkpoint-2"))
    assert "optimizer state: kept" in done.out
    assert losses_of(resumed) == pytest.approx(after, rel=1e-4)
    one, said = resume(run / "checkpoint-2")
    assert "optimizer state: kept" in said
    assert one == pytest.approx(after, rel=1e-4)
    done = launched(root, many.words(root / "new", *zero, "--resume", wide / "checkpoint-4"))
    assert "optimizer state: dropped (DeepSpeed takes up no state but its own)" in done.out


@pytest.mark.slow
def test_accelerates_launcher_starts_it_too(many, losses, tmp_path):
    """Its launcher of many GPUs; what the processes find is the processor."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    command += ["--dynamo_backend=no", "--main_process_port=0"]
    words = many.words(tmp_path, "--set", "training.steps=2")
    subprocess.run([*command, *many.module, *words], env=many.environment, check=True, timeout=280)
    manifest = json.loads((tmp_path / "checkpoint-2" / "sentinel_manifest.json").read_text())
    assert manifest["processes"]["count"] == 2
    assert losses(tmp_path).keys() == {1, 2}


def workers_of(process):
    """The two processes of a launcher, once there are two."""
    while process.poll() is None:
        found = [child for child in psutil.Process(process.pid).children() if child.is_running()]
        if len(found) == 2:
            return found
    raise AssertionError(process.returncode)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["launcher", "one process"])
def test_sigterm_saves_one_checkpoint_and_ends_all(many, train, tmp_path, to_all):
    """Whichever process gets it; all stop at the same step, which one process goes on from."""
    words = many.words(tmp_path / "run", "--set", "training.steps=100000")
    process = subprocess.Popen(
        [*many.torchrun, *many.module, *words, "--set", "training.save_every=100000"],
        env=many.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step 2/"):
            break
    if to_all:
        process.send_signal(signal.SIGTERM)
    else:
        workers_of(process)[-1].send_signal(signal.SIGTERM)
    process.communicate(timeout=200)
    assert process.returncode != 0
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    step = json.loads((checkpoint / "sentinel_manifest.json").read_text())["step"]
    more = {"training__steps": step + 1}
    assert train(tmp_path / "more", *DROPOUT, "--resume", checkpoint, **more) == 0


@pytest.mark.slow
def test_a_killed_process_ends_all_and_leaves_whole_checkpoints(many, train, tmp_path):
    words = many.words(tmp_path / "run", "--set", "training.steps=100000")
    process = subprocess.Popen(
        [*many.torchrun, *many.module, *words, "--set", "training.save_every=1"],
        env=many.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step 3/"):
            break
    workers_of(process)[-1].kill()
    process.communicate(timeout=200)
    assert process.returncode != 0
    found = list((tmp_path / "run").glob("checkpoint-*"))
    assert found
    for checkpoint in found:
        manifest = json.loads((checkpoint / "sentinel_manifest.json").read_text())
        for name, entry in manifest["files"].items():
            assert (checkpoint / name).stat().st_size == entry["size_bytes"]
    newest = max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))
    step = int(newest.name.removeprefix("checkpoint-"))
    assert train(tmp_path / "run", *DROPOUT, "--resume", newest, training__steps=step + 1) == 0
    assert not list((tmp_path / "run").glob(".tmp-*"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"parallel__engine": "fsdp2"}, "accelerate shards on accelerators only"),
        (
            {"parallel__engine": "fsdp2", "training__optimizer": "{name: adafactor}"},
            "optimizer adafactor needs whole weights",
        ),
        ({"parallel__zero_stage": "2"}, "zero_stage is for engine deepspeed"),
        ({"parallel__args": "{a: 1}"}, "args are for engine fsdp2 or deepspeed"),
        ({"parallel__engine": "zero"}, "'parallel.engine' is 'zero'"),
    ],
)
def test_an_engine_that_can_not_carry_the_recipe_is_refused(
    train, tmp_path, capsys, settings, sentence
):
    assert train(tmp_path / "out", **settings) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_deepspeed_can_not_take_up_is_said(part, recipe_file):
    """Its own parts of as many processes under the same stage, and nothing else."""
    files, engines = part("recipe_file"), part("engines")
    settings = files.with_option(files.read_settings(recipe_file), "output_dir=out")
    processes = part("processes").Processes(count=2)
    plain = files.check(settings, "recipe")
    zero = files.with_option(settings, "parallel={engine: deepspeed, zero_stage: 3}")
    recipe = files.check(zero, "recipe")
    own = engines.facts(recipe, processes)
    assert engines.misfit(recipe, processes, own) is None
    assert engines.misfit(plain, processes, own) is None
    assert "takes up no state but its own" in engines.misfit(recipe, processes, {"count": 2})
    of_four = engines.misfit(recipe, processes, own | {"count": 4})
    assert "4 processes under ZeRO 3" in of_four
    assert engines.engine_of(plain, {"ACCELERATE_USE_FSDP": "true"}) == "fsdp2"
    assert engines.engine_of(plain, {"ACCELERATE_USE_DEEPSPEED": "true"}) == "deepspeed"
