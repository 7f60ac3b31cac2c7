# ruff: noqa: PLC0415 - torch is loaded only where it is needed
"""A tiny base model and a way to call the trainer as its command does, without a new process."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

PACKAGE = "sentinel_trainer" if find_spec("sentinel_trainer") else "trainer"


@pytest.fixture(scope="session")
def package():
    """The trainer's name: another one in the wheel than in the repository."""
    return PACKAGE


@pytest.fixture(scope="session")
def part():
    """Import one module of the trainer."""
    return lambda name: importlib.import_module(f"{PACKAGE}.{name}")


@pytest.fixture(scope="session")
def base_model(tmp_path_factory, part):
    """A Llama with random weights and a byte tokenizer, in a directory."""
    import torch

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("base")
    part("tiny_base").build(out, steps=0)
    return out


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory, base_model):
    """A recipe of six quick steps with a save every two; a place is given by --set."""
    directory = tmp_path_factory.mktemp("recipe")
    (directory / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 40)
    path = directory / "recipe.yaml"
    path.write_text(
        f"""
base: {{model: {base_model}}}
adapter: {{rank: 2, alpha: 4, dropout: 0.1, target_modules: [q_proj, v_proj]}}
data: {{files: text.txt, block_size: 32}}
training:
  {{steps: 6, batch_size: 2, learning_rate: 1e-3, save_every: 2, log_every: 1, scheduler: linear,
    tensorboard: false}}
"""
    )
    return path


@pytest.fixture(scope="session")
def train(part, recipe_file):
    """Call the command with settings put over the recipe; returns the exit code."""

    def call(output_dir, *arguments, recipe=recipe_file, **settings):
        options = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        pairs = [word for option in options for word in ("--set", option)]
        place = ["--set", f"output_dir={output_dir}"]
        return part("main").main([str(recipe), *place, *pairs, *map(str, arguments)])

    return call


@pytest.fixture(scope="session")
def finished(train, tmp_path_factory):
    """The output directory of a run that was never interrupted; only to be read."""
    out = tmp_path_factory.mktemp("finished")
    assert train(out) == 0
    return out


@pytest.fixture(scope="session")
def losses():
    """Read the losses of a run by step; a later line of the same step wins."""

    def read(output_dir: Path):
        lines = (output_dir / "metrics.jsonl").read_text().splitlines()
        return {line["step"]: line["loss"] for line in map(json.loads, lines)}

    return read


@pytest.fixture(scope="session")
def wide(train, tmp_path_factory):
    """A run of one process with four samples a step, as two with batches of two take them."""
    out = tmp_path_factory.mktemp("wide")
    assert train(out, training__gradient_accumulation=2, adapter__dropout=0) == 0
    return out


@pytest.fixture(scope="session")
def many(package, recipe_file):
    """How several processes are started: the words of a start, and what runs them."""
    environment = os.environ | {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    def words(out, *more):
        place = ["--set", f"output_dir={out}", "--set", "adapter.dropout=0"]
        return [str(recipe_file), *place, *map(str, more)]

    return SimpleNamespace(
        environment=environment,
        torchrun=torchrun,
        module=["-m", f"{package}.main"],
        words=words,
    )


@pytest.fixture(scope="session")
def launched(package, many):
    """Make starts in two processes of torchrun, one after another; returns codes and output."""
    program = Path(__file__).parent / "programs" / "starts.py"

    def call(root, *commands):
        (root / "commands.json").write_text(json.dumps(commands))
        done = subprocess.run(
            [*many.torchrun, program, package, root / "commands.json", root],
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            env=many.environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        codes = [json.loads((root / f"{rank}.json").read_text()) for rank in (0, 1)]
        return SimpleNamespace(codes=codes, out=done.stdout, err=done.stderr)

    return call
