"""Writing files so that a reader, or a kill at any instant, never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_writer(
    path: Path,
    *,
    staging: Path | None = None,
    naming: AbstractContextManager[object] | None = None,
) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` and put it in place when the block ends well.

    The bytes are on the disk before the name is: write, fsync, rename, fsync of the directory.
    On an error the temporary file is removed and ``path`` is as it was; after a kill it may
    stay. Its name begins with a dot and ends in ``.tmp``, so that no checkpoint reader takes it.
    ``staging``, on the same file system, holds it instead where even a foreign name disturbs:
    some Parquet readers refuse a directory in which anything else lies. ``naming`` is entered for
    the moment in which the file gets its name.
    """
    import tempfile  # noqa: PLC0415 - only for who writes: it brings every archive format

    _make_directory(path.parent)
    directory = path.parent if staging is None else staging
    directory.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name[:40]}.", suffix=".tmp", dir=directory
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with naming or nullcontext():
            os.replace(temporary, path)  # noqa: PTH105 - says what POSIX promises
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as a whole or not at all."""
    with atomic_writer(path) as file:
        file.write(data)


def sync_directory(path: Path) -> None:
    """Make renames inside a directory durable where the system can (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directory(path: Path) -> None:
    """Make a directory and the missing ones above it, each name durable in its parent."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)
