"""Checkpoints of real libraries, and a watch over the originals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from repairs.files.real import trained


def snapshot(root: Path) -> dict[str, tuple[str, int, int]]:
    """Digest, time of change and inode of everything below a directory."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        for path in [root, *sorted(root.rglob("*"))]
    }


@pytest.fixture
def untouched() -> Callable[[Path], Any]:
    """Hold that nothing in a directory changes inside a block, not even a time."""

    @contextmanager
    def watching(root: Path) -> Iterator[None]:
        before = snapshot(root)
        yield
        assert snapshot(root) == before

    return watching


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of a real training, with `checkpoint-3` and `checkpoint-6`."""
    pytest.importorskip("peft")
    output = tmp_path_factory.mktemp("run") / "out"
    trained(output, steps=6)
    return output
