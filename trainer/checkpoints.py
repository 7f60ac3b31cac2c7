"""The checkpoint directories of a run: written whole or not at all, moved aside or deleted whole.

A checkpoint is filled under `.tmp-checkpoint-<step>-<pid>`, synced file by file, and gets its
name in one rename; a kill at any instant leaves either no `checkpoint-<step>` or a whole one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil

from .disk import telling_full_disk

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_TEMPORARY = re.compile(r"\.tmp-checkpoint-\d+-(\d+)")


@contextmanager
def staged(output_dir: Path, step: int) -> Iterator[Path]:
    """Yield an empty directory that becomes `checkpoint-<step>` when the block ends well.

    Raises FileExistsError when a checkpoint of that step is there already: nothing is
    overwritten; and DiskFullError when it did not fit.
    """
    final = output_dir / f"checkpoint-{step}"
    temporary = output_dir / f".tmp-checkpoint-{step}-{os.getpid()}"
    if final.exists():
        raise FileExistsError(final)
    temporary.mkdir(parents=True)
    try:
        with telling_full_disk(temporary):
            yield temporary
            sync_tree(temporary)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(output_dir)


def numbered(output_dir: Path) -> dict[int, Path]:
    """Return the checkpoints lying in a run's directory, by step."""
    if not output_dir.is_dir():
        return {}
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in output_dir.iterdir())
    pairs = ((int(match[1]), path) for match, path in found if match and path.is_dir())
    return dict(sorted(pairs))


def later_than(output_dir: Path, step: int) -> list[Path]:
    """Return the checkpoints that a start at ``step`` would make again, in order."""
    return [path for number, path in numbered(output_dir).items() if number > step]


def supersede(paths: list[Path], now: datetime) -> Path:
    """Move checkpoints into a new `superseded-<time>` directory beside them and return it."""
    parent = paths[0].parent
    name = f"superseded-{now:%Y%m%dT%H%M%SZ}"
    aside, count = parent / name, 1
    while aside.exists():
        count += 1
        aside = parent / f"{name}-{count}"
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
    _sync(aside)
    _sync(parent)
    return aside


def remove_stale(output_dir: Path) -> list[str]:
    """Remove the half-made checkpoints of processes that are gone and return their names."""
    if not output_dir.is_dir():
        return []
    stale = []
    for path in output_dir.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        # In a container every start may get the same process id: our own is stale as well.
        if match and (int(match[1]) == os.getpid() or not psutil.pid_exists(int(match[1]))):
            shutil.rmtree(path)
            stale.append(path.name)
    return sorted(stale)


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint; a kill meanwhile leaves no half one under its name.

    It first gets the name of one that is half made, which the next start sweeps away.
    """
    step = checkpoint.name.removeprefix("checkpoint-")
    aside = checkpoint.with_name(f".tmp-checkpoint-{step}-{os.getpid()}")
    checkpoint.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sync_tree(directory: Path) -> None:
    """Bring every file below a directory, and the names themselves, to the disk."""
    for root, _, names in os.walk(directory):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
