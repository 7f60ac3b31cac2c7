"""Checkpoints as the trainers lay them out, tensors by the official safetensors writer."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

LORA_KEY = "base_model.model.model.layers.0.self_attn.q_proj"


def lora_tensors(rank: int = 2) -> dict[str, np.ndarray]:
    return {
        f"{LORA_KEY}.lora_A.weight": np.ones((rank, 6), "f4"),
        f"{LORA_KEY}.lora_B.weight": np.zeros((4, rank), "f4"),
    }


def torch_bytes(value: object) -> bytes:
    """What torch.save writes for a value without tensors."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=2))
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


class Writer:
    """Writes whole checkpoints below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def json(self, name: str, content: object) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    def tensors(
        self,
        name: str,
        tensors: Mapping[str, np.ndarray] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors or {"w": np.ones((2, 2), "f4")}), path, metadata)
        return path

    def peft(self, name: str, **config: object) -> Path:
        self.tensors(f"{name}/adapter_model.safetensors", lora_tensors())
        described = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
        return self.json(f"{name}/adapter_config.json", described).parent

    def trainer(self, name: str, **state: object) -> Path:
        path = self.peft(name)
        (path / "optimizer.pt").write_bytes(torch_bytes({"state": {}, "param_groups": []}))
        for part in ("scheduler.pt", "rng_state.pth", "training_args.bin"):
            (path / part).write_bytes(torch_bytes({}))
        self.json(f"{name}/trainer_state.json", {"global_step": 5, "log_history": [], **state})
        return path

    def kohya(self, name: str, **metadata: str) -> Path:
        tensors = {
            "lora_unet_q.lora_down.weight": np.ones((2, 6), "f2"),
            "lora_unet_q.lora_up.weight": np.zeros((4, 2), "f2"),
            "lora_unet_q.alpha": np.array(1.0, "f2"),
        }
        return self.tensors(name, tensors, metadata or {"ss_network_module": "networks.lora"})


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


@pytest.fixture
def forbid() -> Iterator[Callable[[Path], object]]:
    """Take our own right to read files and list directories away, root or not."""
    if os.name == "nt":
        pytest.skip("Windows has no mode bits")
    changed: list[Path] = []

    @contextmanager
    def as_stranger(path: Path) -> Iterator[None]:
        changed.append(path)
        path.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)

    yield as_stranger
    for path in changed:
        path.chmod(0o755)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A directory that another user may enter too; pytest's own may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def touch() -> Callable[..., None]:
    """Write files of the state that say nothing, each whole as its suffix wants it."""

    def write_all(path: Path, *names: str) -> None:
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".safetensors"):
                save_file({"w": np.ones(2, "f4")}, path / name)
            else:
                (path / name).write_bytes(b"{}" if name.endswith(".json") else torch_bytes({}))

    return write_all
