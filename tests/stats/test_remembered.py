"""The same bytes are read once, and anything that may be other bytes is read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.formats.opening import open_checkpoint
from sentinel.stats.measure import measure
from sentinel.stats.remembered import Remembered

LONG_AGO_S = 1_700_000_000


def write(path: Path, value: float = 1.0, mtime_s: float = LONG_AGO_S) -> None:
    names = ("lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight")
    save_file({name: np.full((4, 64), value, np.float32) for name in names}, path)
    os.utime(path, (mtime_s, mtime_s))


def bytes_read(path: Path, remembered: Remembered) -> int:
    """Measure a file, hold it to a reading without memory, and count what was read of it."""
    checkpoint, read = open_checkpoint(path), [0]

    def tick(size_bytes: int) -> None:
        read[0] += size_bytes

    found = measure(checkpoint, digest=True, tick=tick, remembered=remembered)
    alone = measure(checkpoint, digest=True)
    assert (found.tensors, found.pairs) == (alone.tensors, alone.pairs)
    return read[0]


@pytest.fixture
def first(tmp_path) -> Path:
    path = tmp_path / "a-000001.safetensors"
    write(path)
    return path


def test_a_hard_link_is_not_read_again(first, tmp_path) -> None:
    remembered, other = Remembered(), tmp_path / "best.safetensors"
    os.link(first, other)

    assert bytes_read(first, remembered) == 2 * 4 * 64 * 4
    assert bytes_read(other, remembered) == 0


def test_a_copy_is_read(first, tmp_path) -> None:
    """Another inode may hold other bytes, whatever its length and time."""
    remembered, other = Remembered(), tmp_path / "b-000001.safetensors"
    write(other, value=2.0)

    assert bytes_read(first, remembered)
    assert bytes_read(other, remembered)


def test_what_was_written_since_is_read(first) -> None:
    remembered = Remembered()
    assert bytes_read(first, remembered)
    write(first, value=3.0, mtime_s=LONG_AGO_S + 10)

    assert bytes_read(first, remembered)


def test_what_was_written_a_moment_ago_is_not_remembered(first) -> None:
    """Two writings within one tick of the file system's clock look like one."""
    remembered = Remembered()
    write(first, mtime_s=time.time())

    assert bytes_read(first, remembered)
    assert bytes_read(first, remembered)


def test_what_was_not_met_for_long_is_let_go(first, tmp_path) -> None:
    """Many files take no more room than a few; what is met again and again stays."""
    remembered = Remembered(most=4)
    assert bytes_read(first, remembered)
    for step in (2, 3, 4):
        other = tmp_path / f"a-{step:06}.safetensors"
        write(other, value=float(step))
        assert bytes_read(other, remembered)
        assert bytes_read(first, remembered) == 0
    assert bytes_read(tmp_path / "a-000003.safetensors", remembered)
