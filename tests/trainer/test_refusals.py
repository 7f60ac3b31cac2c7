# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""What cannot work is refused in one sentence before any weight is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.trainer


@pytest.fixture
def refused(train, tmp_path, capsys, monkeypatch, part):
    """The one sentence; a model that is loaded before it fails the test."""

    def call(*arguments, **settings):
        def load(*_):
            pytest.fail("the model was loaded")

        monkeypatch.setattr(part("session"), "load_base", load)
        capsys.readouterr()
        assert train(tmp_path / "out", *arguments, **settings) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert not (tmp_path / "out").exists()
        return said[0]

    return call


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"training__mixed_precision": "fp16", "adapter__dtype": "fp16"},
            "fp16 weights: use adapter.dtype fp32, or training.grad_scaler false",
        ),
        ({"adapter__init": "pissa", "base__quantization": "nf4"}, "needs the base's own weights"),
        ({"adapter__method": "loha", "base__quantization": "nf4"}, "dropout has no effect"),
        ({"adapter__method": "ia3", "adapter__dropout": 0}, "rank has no effect on method ia3"),
        ({"adapter__init": "svd"}, "'svd' is none of default, eva"),
        ({"adapter__args": "{r: 3}"}, "args.r is set by another key of adapter"),
        ({"adapter__args": "{layer: 3}"}, "check adapter.args"),
        ({"adapter__target_modules": "[no_proj]"}, "Target modules"),
        ({"training__gradient_checkpointing_reentrant": "true"}, "has no effect without"),
        ({"training__scheduler": "warmup-stable-decay"}, "needs scheduler_args {num_decay_steps"),
        ({"data__packing": "cut", "data__style": "chat"}, "style chat needs records"),
        ({"base__attention": "flash-attention-2"}, "needs compute_dtype bf16 or fp16"),
        ({"adapter__method": "dora", "base__quantization": "int8"}, "on a CPU"),
    ],
    ids=lambda it: it if isinstance(it, str) else "-".join(it),
)
def test_an_impossible_combination_is_refused(refused, settings, said):
    import torch

    if said == "on a CPU" and torch.cuda.is_available():
        pytest.skip("the GPU trains it: test_gpu.py")
    assert said in refused(**settings)


def test_four_bits_need_bitsandbytes(refused, part, monkeypatch):
    monkeypatch.setattr(part("sections.section"), "find_spec", lambda _: None)
    said = refused(base__quantization="nf4")
    assert "nf4 needs the package bitsandbytes, which is not installed" in said


def test_bf16_is_refused_on_a_gpu_without(part):
    """A Turing card emulates it; a CPU computes it, if slowly, and is not refused."""
    device, refused = part("device"), part("errors").RefusedError
    settings = {
        "output_dir": "out",
        "base": {"model": "some/model", "compute_dtype": "bf16"},
        "data": {"files": ["x"]},
        "training": {"steps": 1},
    }
    recipe = part("recipe_file").check(settings, "recipe")
    with pytest.raises(refused, match=r"base\.compute_dtype bf16: Tesla T4 .*7\.5.* use base"):
        device.check_device(recipe, device.Device("cuda", "Tesla T4", bf16=False, capability="7.5"))
    device.check_device(recipe, device.Device("cuda", "L4", bf16=True, capability="8.9"))
    device.check_device(recipe, device.Device("cpu", "some CPU", bf16=False, capability=None))


def test_too_little_disk_is_told_with_the_checkpoints_to_come(refused, part, monkeypatch):
    """Three saves to come; with rotation no more than one beyond those that are kept."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(part("disk").shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    said = refused(training__save_every=1)
    assert "6 checkpoints of about 116.0 KiB need 696.0 KiB, 195.3 KiB are free" in said
    assert "set training.keep" in said


@pytest.mark.parametrize(
    ("save_every", "keep", "step", "count"),
    [
        (2, None, 0, 3),
        (2, None, 2, 2),
        (4, None, 0, 2),
        (6, None, 0, 1),
        (1, 2, 0, 3),
        (1, 9, 0, 6),
    ],
)
def test_checkpoints_to_come_are_counted(part, *, save_every, keep, step, count):
    settings = {"steps": 6, "save_every": save_every, "keep": keep}
    recipe = part("recipe_file").check(
        {
            "output_dir": "out",
            "base": {"model": "m"},
            "data": {"files": ["x"]},
            "training": settings,
        },
        "recipe",
    )
    assert part("disk").checkpoints_to_come(recipe, step) == count


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["adamw", "adamw-8bit", "adafactor", "sgd", "prodigy"])
def test_the_forecast_holds_the_checkpoint_that_comes(part, train, tmp_path, name, dtype):
    """Never less than it turns out, and not twice as much beyond the fixed part."""
    settings = {
        "training__optimizer": f"{{name: {name}}}",
        "training__learning_rate": "null",
        "training__scheduler": "constant",
        "adapter__dtype": dtype,
        "adapter__rank": 64,
        "training__steps": 1,
    }
    assert train(tmp_path, **settings) == 0
    files = (tmp_path / "checkpoint-1").iterdir()
    size_bytes = sum(path.stat().st_size for path in files)
    recipe_json = json.loads((tmp_path / "checkpoint-1" / "sentinel_manifest.json").read_text())
    recipe = part("recipe").Recipe.model_validate(recipe_json["recipe"])
    trained = part("skeleton").build_skeleton(recipe).trained
    forecast = part("skeleton").checkpoint_bytes(recipe, trained)
    assert size_bytes <= forecast < 2 * size_bytes + (128 << 10)


def break_config(base):
    (base / "config.json").write_text("{")
    return "config.json can't be read"


def cut_weights(base):
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return "model.safetensors is broken or cut short"


def lose_weights(base):
    (base / "model.safetensors").unlink()
    return "it holds no weights"


def lose_shard(base):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    return "model-2.safetensors can't be read"


def another_model(base):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "nobody-knows"}))
    return "nobody-knows"


@pytest.mark.parametrize(
    "breaking", [break_config, cut_weights, lose_weights, lose_shard, another_model]
)
def test_an_unreadable_base_is_refused(refused, base_model, tmp_path, breaking):
    base = tmp_path / "base"
    shutil.copytree(base_model, base)
    said = breaking(base)
    told = refused(base__model=base)
    assert said in told
    assert str(base) in told


def test_a_record_is_refused_before_the_model_is_loaded(refused, tmp_path):
    (tmp_path / "data.jsonl").write_text('{"txt": "a"}\n')
    said = refused(data__format="jsonl", data__files=tmp_path / "data.jsonl")
    assert "data.jsonl:1': no text under 'text'" in said


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with room for one checkpoint and not for two."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=220k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_ends_with_the_last_whole_checkpoint(
    train, small_disk, part, monkeypatch, capsys
):
    """The forecast is left out, as if another had filled the disk meanwhile."""
    monkeypatch.setattr(part("session"), "check_room", lambda *_: "")
    assert train(small_disk / "out", training__save_every=1) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert "disk full: a checkpoint does not fit" in said
    assert "then --resume it" in said
    (last,) = (small_disk / "out").glob("checkpoint-*")
    assert list((small_disk / "out").glob(".tmp-*")) == []
    assert train(small_disk.parent / "on", "--resume", last) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_out_of_memory_says_what_to_change(package, recipe_file, tmp_path):
    """A batch that is too large for a limit of ours: what would fit is told with numbers."""
    import resource

    import torch

    if torch.cuda.is_available():
        pytest.skip("it trains on the GPU, which has no such limit: test_gpu.py has one")

    rows, width = 1 << 14, 32
    (tmp_path / "text.txt").write_text("a" * (rows * width))
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"training.batch_size={rows}",
        f"data.files={tmp_path / 'text.txt'}",
        "training.threads=1",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    limit = 2 << 30
    done = subprocess.run(
        [sys.executable, "-m", f"{package}.main", str(recipe_file), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.returncode == 3, done.stderr
    said = done.stderr.splitlines()[-1]
    assert "out of memory after step 0" in said
    assert f"training.batch_size={rows // 2} and training.gradient_accumulation=2" in said


def test_what_to_change_keeps_the_training_the_same_where_it_can(part):
    recipe = part("recipe_file").check(
        {
            "output_dir": "out",
            "base": {"model": "m", "quantization": "nf4", "compute_dtype": "bf16"},
            "data": {"files": ["x"], "block_size": 1024},
            "training": {"steps": 1, "batch_size": 6, "gradient_accumulation": 2},
        },
        "recipe",
    )
    said = part("memory").advise(recipe, 3)
    assert said.startswith("out of memory after step 3: ")
    assert "training.batch_size=3 and training.gradient_accumulation=4" in said
    assert "training.gradient_checkpointing=true" in said
    assert "data.block_size=512" in said
    assert "quantization" not in said
    assert "smaller base" in part("memory").advise(recipe, None)
