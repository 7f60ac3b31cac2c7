"""A result that appears whole or not at all, and never in another's place unasked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..checkpoints import sync_tree
from ..errors import RefusedError


def refuse_taken(path: Path, *, force: bool, directory: bool) -> None:
    """Refuse a place where something lies already, unless ``force`` may replace its like."""
    if not path.exists():
        return
    what = f"output '{path}'"
    if path.is_dir() != directory:
        fact = "is a file" if directory else "is a directory"
        raise RefusedError(what, fact, "name another place with -o")
    if not force:
        raise RefusedError(what, "is there already", "name another with -o, or use --force")


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a path in a fresh directory beside ``path``; what lies there then takes its place.

    A file is replaced in one rename. A directory in two, so that a kill between them leaves the
    old one under a name that begins with a dot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(".tmp", f".{path.name[:40]}.", path.parent))
    except OSError as error:
        raise RefusedError(f"output '{path}'", f"can't be written ({error})") from error
    try:
        made = scratch / path.name
        yield made
        sync_tree(scratch)
        if path.is_dir():
            path.rename(scratch / f"{path.name}.before")
            made.rename(path)
        else:
            os.replace(made, path)  # noqa: PTH105 - says what POSIX promises
        _sync_directory(path.parent)
    except (OSError, SafetensorError) as error:
        raise RefusedError(f"output '{path}'", f"can't be written ({error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    """Make the rename durable where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
