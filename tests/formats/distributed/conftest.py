"""Distributed checkpoints by the libraries that write them, and a reader that knows no tricks."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.ranks import run_ranks
from sentinel.checkpoint import Checkpoint, Piece, Tensor


def values(root: Path, tensor: Tensor, item_bytes: int) -> bytes:
    """The elements of a tensor in the order of its shape, from where sentinel says they lie."""
    whole = np.zeros((*tensor.shape, item_bytes), np.uint8)
    for box in tensor.boxes:
        place = [slice(at, at + n) for at, n in zip(box.place, box.shape, strict=True)]
        whole[tuple(place)] = box_values(root, box, item_bytes)
    return whole.tobytes()


def box_values(root: Path, box: Piece, item_bytes: int) -> np.ndarray:
    raw = (root / box.member).read_bytes()[box.offset : box.offset + box.size_bytes]
    items = np.frombuffer(raw, np.uint8).reshape(-1, item_bytes)
    if box.strides is None:
        return items.reshape(*box.shape, item_bytes)
    at = np.zeros(box.shape, int)
    for axis, stride in enumerate(box.strides):
        at += np.indices(box.shape)[axis] * stride
    return items[at]


@pytest.fixture
def assert_equal() -> Callable[[Checkpoint, dict[str, Any]], None]:
    """Names, shapes, dtypes and every byte are those of torch's own reader."""
    import torch  # noqa: PLC0415

    def check(checkpoint: Checkpoint, expected: dict[str, Any]) -> None:
        assert {one.name for one in checkpoint.tensors} == set(expected)
        for one in checkpoint.tensors:
            theirs = expected[one.name].detach()
            assert one.shape == tuple(theirs.shape), one.name
            assert one.size_bytes == theirs.nbytes, one.name
            if one.numel:
                data = theirs.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
                assert values(checkpoint.root, one, theirs.element_size()) == data, one.name

    return check


@pytest.fixture
def edit() -> Callable[[Path, Callable[[Any], object]], None]:
    """Change a `.metadata` as torch's own objects and pickle it again."""

    def changed(path: Path, change: Callable[[Any], object]) -> None:
        described = path / ".metadata"
        metadata = pickle.loads(described.read_bytes())
        change(metadata)
        described.write_bytes(pickle.dumps(metadata))

    return changed


@pytest.fixture(scope="session", name="run_ranks")
def run_ranks_fixture() -> Callable[..., None]:
    """Run one of our programs as the processes of a distributed training, on the CPU."""
    return run_ranks
