"""Checkpoint directories are whole or not there, and none is ever deleted or overwritten."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NAMES = ("weights", "state", "manifest")


def fill(directory: Path) -> None:
    for name in NAMES:
        (directory / name).write_bytes(b"x" * 1000)


def test_a_block_that_ends_well_leaves_one_whole_directory(part, tmp_path):
    with part("checkpoints").staged(tmp_path, 7) as directory:
        assert list(tmp_path.glob("checkpoint-*")) == []
        fill(directory)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    assert {path.name for path in (tmp_path / "checkpoint-7").iterdir()} == set(NAMES)


def test_a_block_that_fails_leaves_nothing(part, tmp_path):
    def save_in_vain():
        with part("checkpoints").staged(tmp_path, 7) as directory:
            fill(directory)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        save_in_vain()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_checkpoint_is_not_overwritten(part, tmp_path):
    (tmp_path / "checkpoint-7").mkdir()
    with pytest.raises(FileExistsError), part("checkpoints").staged(tmp_path, 7):
        pass
    assert list((tmp_path / "checkpoint-7").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("moment", ["begin", *NAMES, "fsync", "rename", "renamed"])
def test_a_kill_at_any_moment_leaves_only_whole_checkpoints(part, tmp_path, moment):
    """SIGKILL before or after each file, the first sync, and the rename."""
    checkpoints = part("checkpoints")
    child = os.fork()
    if child == 0:
        die_at(checkpoints, tmp_path, moment)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    left = list(checkpoints.numbered(tmp_path))
    assert left == ([7] if moment == "renamed" else [])
    for path in checkpoints.numbered(tmp_path).values():
        assert {file.name for file in path.iterdir()} == set(NAMES)
    assert len(checkpoints.remove_stale(tmp_path)) == (moment != "renamed")
    assert list(tmp_path.glob(".tmp*")) == []


def die_at(checkpoints, output_dir: Path, moment: str) -> None:
    """Save a checkpoint in this process and kill it at one moment."""

    def die(*_args, **_kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "fsync":
        os.fsync = die
    if moment == "rename":
        Path.rename = die
    with checkpoints.staged(output_dir, 7) as directory:
        for name in ("begin", *NAMES):
            if name != "begin":
                (directory / name).write_bytes(b"x" * 1000)
            if name == moment:
                die()
    die()


def test_living_processes_keep_their_half_made_checkpoints(part, tmp_path):
    alive, dead, own = os.getppid(), 2**30, os.getpid()
    for process in (alive, dead, own):
        (tmp_path / f".tmp-checkpoint-3-{process}").mkdir()
    removed = part("checkpoints").remove_stale(tmp_path)
    assert removed == sorted(f".tmp-checkpoint-3-{process}" for process in (dead, own))


def test_superseded_checkpoints_move_whole_and_never_meet(part, tmp_path):
    """Twice in the same second: two directories, nothing lost."""
    checkpoints = part("checkpoints")
    for content in ("first", "second"):
        for step in (2, 10):
            (tmp_path / f"checkpoint-{step}").mkdir()
            (tmp_path / f"checkpoint-{step}" / "weights").write_text(content)
        later = checkpoints.later_than(tmp_path, 1)
        assert [path.name for path in later] == ["checkpoint-2", "checkpoint-10"]
        checkpoints.supersede(later, NOW)
    kept = sorted(tmp_path.glob("superseded-*/checkpoint-10/weights"))
    assert [path.read_text() for path in kept] == ["first", "second"]
    assert checkpoints.numbered(tmp_path) == {}


def test_only_checkpoints_count_as_checkpoints(part, tmp_path):
    for name in ("checkpoint-5", "checkpoint-x", "checkpoint-5-fixed", ".tmp-checkpoint-6-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-9").write_text("a file")
    assert list(part("checkpoints").numbered(tmp_path)) == [5]
