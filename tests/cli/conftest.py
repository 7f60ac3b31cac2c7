"""The real command on real files: called in this process, or started as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.cli.main import main

LONG_AGO_S = 1_700_000_000
"""Nothing that was written then is waited for."""


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without what the environment says about terminals."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def sentinel(
    here: Path,  # noqa: ARG001 - the command is called there
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ran]:
    """Call the command in this process, by the same door as the shell does."""

    def call(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["sentinel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def start(here: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start the command in a process of its own."""

    def popen(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "sentinel", *arguments], cwd=here, **options)

    return popen


class Writer:
    """Writes small adapters below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def trainer(self, name: str, *, up: float | None = None) -> Path:
        """A `checkpoint-N` of Transformers' Trainer; ``up`` fills lora_B."""
        path = self.root / name
        path.mkdir(parents=True)
        step = int(path.name.split("-")[1])
        draw = np.random.default_rng(step)
        grown = draw.normal(0, 0.01, (16, 4)) if up is None else np.full((16, 4), up)
        module = "base_model.model.layers.0.q_proj"
        tensors = {
            f"{module}.lora_A.weight": draw.uniform(-0.2, 0.2, (4, 32)).astype("f4"),
            f"{module}.lora_B.weight": grown.astype("f4"),
        }
        save_file(tensors, path / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8}
        (path / "adapter_config.json").write_text(json.dumps(config))
        log = [{"step": n, "loss": 2.0, "learning_rate": 1e-4} for n in range(1, step + 1)]
        state = {"global_step": step, "log_history": log}
        (path / "trainer_state.json").write_text(json.dumps(state))
        for file in path.iterdir():
            os.utime(file, (LONG_AGO_S, LONG_AGO_S))
        return path

    def plain(self, name: str, tensor: str = "w", value: float = 1.0) -> Path:
        """A file of no known layout."""
        path = self.root / name
        save_file({tensor: np.full((4, 4), value, "f4")}, path)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
        return path

    def torn(self, name: str) -> Path:
        """A checkpoint whose weights end too early."""
        weights = self.trainer(name) / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        os.utime(weights, (LONG_AGO_S, LONG_AGO_S))
        return weights.parent


@pytest.fixture
def write(here: Path) -> Writer:
    return Writer(here)


def plant(root: Path) -> Path:
    """Lay out one checkpoint of each verdict."""
    write = Writer(root)
    write.trainer("out/checkpoint-20")
    write.trainer("out/checkpoint-40", up=np.nan)
    write.torn("cut/checkpoint-60")
    write.plain("who-knows.safetensors")
    return root


@pytest.fixture
def tree(here: Path) -> Path:
    """A directory with one checkpoint of each verdict, to be changed at will."""
    return plant(here)


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a directory whose scan is in the health log `log`, for all tests together."""
    root = plant(tmp_path_factory.mktemp("scanned"))
    command = [sys.executable, "-m", "sentinel", "scan", ".", "--log", "log"]
    done = subprocess.run(command, cwd=root, capture_output=True, timeout=100, check=False)
    assert done.returncode == 1, done.stderr
    return root
