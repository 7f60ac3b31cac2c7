"""The command in this process, and small whole files of every container."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from sentinel.cli.main import main

LONG_AGO_S = 1_700_000_000
"""Nothing that was written then is waited for."""

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def sentinel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def adapter_bytes(name: str = MODULE) -> bytes:
    rng = np.random.default_rng(1)
    return save(
        {
            f"{name}.lora_A.weight": rng.normal(0, 1, (2, 6)).astype("f4"),
            f"{name}.lora_B.weight": rng.normal(0, 1, (4, 2)).astype("f4"),
        }
    )


def array_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(6, dtype="f4"))
    return file.getvalue()


class Writer:
    """Writes checkpoints below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, name: str, raw: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
        return path

    def json(self, name: str, content: object) -> Path:
        return self.file(name, json.dumps(content).encode())

    def adapter(self, name: str, **files: object) -> Path:
        """A directory of PEFT's; further files by name, bytes as they are and all else as JSON."""
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
        self.file(f"{name}/adapter_model.safetensors", adapter_bytes())
        for file, content in {"adapter_config.json": config, **files}.items():
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.file(f"{name}/{file}", raw)
        return self.root / name


@pytest.fixture(name="adapter_bytes")
def given_adapter_bytes() -> Callable[..., bytes]:
    return adapter_bytes


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path)
