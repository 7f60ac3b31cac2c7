"""Regular files, told from everything else that may lie under a name, and opened without waiting.

A pipe or a device under a checkpoint's name could keep a reader for ever, and what lies there may
be another thing a moment later: so the kind is asked of the open file, not of the name.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError
from sentinel.remote.paths import RemotePath

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from sentinel.remote.ranges import RangeFile

# Windows has neither; there `O_BINARY` keeps line ends as they are.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)


def open_any(path: Path) -> FileIO | RangeFile:
    """Open a regular file as `open_file` does, or an address, of which ranges are read."""
    return path.open_ranges() if isinstance(path, RemotePath) else open_file(path)


def open_file(path: Path) -> FileIO:
    """Open a regular file for reading, without a buffer.

    Raises OSError when the system refuses, InputError when it is a directory, a pipe, a socket
    or a device.
    """
    # A device may do something when it is opened, so it is looked at before as well.
    if not stat.S_ISREG(path.stat().st_mode):
        raise _refused(path)
    file = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115 - given to the caller
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _refused(path)
    return file


def is_file(path: Path) -> bool:
    """Tell whether a regular file is there and may be looked at, whatever its name is.

    `Path.is_file` raises for a name that is too long or lies behind a closed directory.
    """
    if isinstance(path, RemotePath):
        return _is_remote_file(path)
    return os.path.isfile(path)  # noqa: PTH113 - the one that never raises


def is_directory(path: Path) -> bool:
    """Tell whether a directory is there and may be looked at, whatever its name is."""
    if isinstance(path, RemotePath):
        return len(path.parts) > 1 and path.system().is_directory(str(path))
    return os.path.isdir(path)  # noqa: PTH112 - the one that never raises


def is_there(path: Path) -> bool:
    """Tell whether anything lies at a path, a link to nothing too.

    Raises OSError where a server does not say.
    """
    if not isinstance(path, RemotePath):
        return os.path.lexists(path)
    try:
        path.status()
    except FileNotFoundError:
        return False
    return True


def _is_remote_file(path: RemotePath) -> bool:
    try:
        return not path.status().is_directory
    except OSError:
        return False


def _open(name: str, _flags: int) -> int:
    try:
        return os.open(name, _FLAGS)
    except BlockingIOError:
        # Another has a lease on it, as file servers do: the system asks for it back meanwhile.
        return os.open(name, _FLAGS & ~getattr(os, "O_NONBLOCK", 0))


def _refused(path: Path) -> InputError:
    return InputError(
        f"file '{path_text(path)}'", fact="is no regular file", todo="check what it is"
    )
