"""Opening and looking at files, with the system's refusals turned into the house's errors."""

from __future__ import annotations

import os
from contextlib import contextmanager
from io import BufferedReader, BytesIO, FileIO
from typing import TYPE_CHECKING

from sentinel.checkpoint import Member, Part, path_text
from sentinel.errors import InputError, MissingMemberError, UnreadableError
from sentinel.regular import is_file, open_any
from sentinel.remote.errors import RemoteError
from sentinel.remote.paths import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO


_READ_AHEAD_BYTES = 4096
"""A page: between the weights of a large file lie texts of a few bytes."""


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and yield it with its size in bytes.

    Raises MissingMemberError when it is not there, UnreadableError when the system refuses to
    open or to read it, InputError when it is a directory, a pipe or a device, on which reading
    could wait for ever.
    """
    try:
        raw = open_any(path)
        with BufferedReader(raw, _READ_AHEAD_BYTES) as file:
            size_bytes = (
                os.fstat(raw.fileno()).st_size if isinstance(raw, FileIO) else raw.size_bytes
            )
            # What says that it is empty is not read: the kernel's own files may wait for news.
            yield (file if size_bytes else BytesIO()), size_bytes
    except OSError as error:
        raise refusal(path, error) from None


def stat_member(root: Path, name: str, part: Part) -> Member:
    """Return a file of a checkpoint with its identity; raises as `open_regular` does."""
    path = root / name
    try:
        status = path.stat()
    except OSError as error:
        raise refusal(path, error) from None
    return Member(
        path=name,
        part=part,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        device=status.st_dev,
        inode=status.st_ino,
    )


def refusal(path: Path, error: OSError) -> InputError:
    """Return what the system's error means for a checkpoint."""
    what = f"file '{path_text(path)}'"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingMemberError(
            what, fact="is not there", todo="copy it again, or take another checkpoint"
        )
    reason = error.strerror or type(error).__name__
    todo = "check its permissions and the disk"
    if isinstance(error, RemoteError):
        todo = "check the address, the credentials in the environment, and the network"
    return UnreadableError(what, fact=f"cannot be read ({reason})", todo=todo)


def list_directory(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the files and of the directories inside a directory, sorted.

    What a symbolic link points at counts; a link to nothing counts as a file. Raises
    UnreadableError or MissingMemberError.
    """
    files: list[str] = []
    directories: list[str] = []
    try:
        if isinstance(path, RemotePath):
            for name, is_one in path.system().listing(str(path)).items():
                (directories if is_one else files).append(name)
            return tuple(sorted(files)), tuple(sorted(directories))
        with os.scandir(path) as entries:
            for entry in entries:
                (directories if _is_directory(entry) else files).append(entry.name)
    except OSError as error:
        raise refusal(path, error) from None
    return tuple(sorted(files)), tuple(sorted(directories))


def files_among(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return which of some names are files in a directory, in the order given.

    They are asked for one by one: the directory of a run may hold ten thousand checkpoints, and
    is looked at for each of them. At an address a listing is one question, and is kept.
    """
    if isinstance(path, RemotePath):
        try:
            names_there, _ = list_directory(path)
        except InputError:
            return ()
        return tuple(name for name in names if name in names_there)
    return tuple(name for name in names if is_file(path / name))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
