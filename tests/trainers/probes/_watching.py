"""The order in which a trainer writes its files, seen from inside its own process.

Python tells an audit hook of every file it opens, renames and removes. Two writers open their
files below Python and are told by a wrapper that calls the real one: safetensors' `save_file` and
`torch.save`. So `watch` has to be called before a trainer is imported.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import safetensors.torch
import torch

_WRITES = frozenset("wax+")
_EVENTS: list[tuple[str, str]] = []
_RECORDING: list[bool] = []


def watch() -> None:
    """Begin to listen; what happens before `start` is not kept."""
    sys.addaudithook(_hear)
    safetensors.torch.save_file = _noted(safetensors.torch.save_file, "filename", 1)
    torch.save = _noted(torch.save, "f", 1)


def start() -> None:
    """Forget what was heard and listen."""
    _EVENTS.clear()
    _RECORDING[:] = [True]


def written(root: Path, below: str = "*") -> list[str]:
    """Stop listening; return what was written below a directory, in order, removals included.

    ``below`` is a pattern for the first of the names under it that counts.

    Raises RuntimeError when a file lies there that was not seen being written: then the order
    would be a guess.
    """
    _RECORDING.clear()
    base = root.resolve()
    order: list[str] = []
    for kind, name in _EVENTS:
        names = [_below(base, one) for one in name.split("\0")]
        if not all(name and fnmatchcase(name.partition("/")[0], below) for name in names):
            continue
        verb = f"{kind} " if kind in {"rename", "remove"} else ""
        line = verb + " -> ".join(one for one in names if one)
        # The wrapped writers may open their file in Python after all.
        if not (kind == "open" and order and order[-1] == line):
            order.append(line)
    seen = {line.split(" ")[-1] for line in order}
    there = {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
    unseen = {name for name in there - seen if fnmatchcase(name.partition("/")[0], below)}
    if unseen:
        raise RuntimeError(f"not seen being written: {sorted(unseen)}")
    return order


def _below(base: Path, name: str) -> str | None:
    path = Path.cwd() / name
    resolved = path.parent.resolve() / path.name
    return resolved.relative_to(base).as_posix() if resolved.is_relative_to(base) else None


def _hear(event: str, args: tuple[object, ...]) -> None:
    if not _RECORDING:
        return
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        mode, flags = args[1], args[2]
        is_write = bool(_WRITES & set(mode)) if isinstance(mode, str) else False
        if is_write or (mode is None and isinstance(flags, int) and flags & os.O_ACCMODE):
            _EVENTS.append(("open", os.fsdecode(args[0])))
    elif event == "os.rename":
        _EVENTS.append(("rename", f"{os.fsdecode(args[0])}\0{os.fsdecode(args[1])}"))
    elif event in {"os.remove", "shutil.rmtree"}:
        _EVENTS.append(("remove", os.fsdecode(args[0])))


def _noted(writer: Callable[..., object], name: str, at: int) -> Callable[..., object]:
    """Return a writer that tells the path it writes to and calls the real one."""

    @functools.wraps(writer)
    def write(*args: object, **kwargs: object) -> object:
        target = kwargs.get(name) if name in kwargs else args[at]
        if _RECORDING and isinstance(target, str | os.PathLike):
            _EVENTS.append(("save", os.fsdecode(target)))
        return writer(*args, **kwargs)

    return write
