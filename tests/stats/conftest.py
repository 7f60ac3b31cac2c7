"""Checkpoints of one safetensors file, written by the official writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.checkpoint import Checkpoint
from sentinel.formats.opening import open_checkpoint

Tensors = dict[str, np.ndarray]


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Tensors], Checkpoint]:
    """Write tensors to a file and return the opened checkpoint."""

    def save(tensors: Tensors) -> Checkpoint:
        path = tmp_path / "adapter.safetensors"
        save_file(tensors, path)
        return open_checkpoint(path)

    return save
