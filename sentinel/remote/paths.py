"""Addresses of files elsewhere as paths: `s3://bucket/run`, told apart by their type alone.

Everything above joins, compares and shows paths; what looks at one (`sentinel.regular`,
`sentinel.formats.files`, `Path.stat`) asks the system of its scheme. No address is ever made out
of what a file holds, so a checkpoint cannot make sentinel call a server.
"""

from __future__ import annotations

import os
import re
import stat
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from sentinel.errors import ConfigError

if TYPE_CHECKING:
    from sentinel.remote.ranges import RangeFile
    from sentinel.remote.systems import Status, System

SCHEMES = frozenset(
    {"abfs", "abfss", "adl", "az", "gcs", "gs", "hf", "http", "https", "memory", "s3", "s3a"}
)
"""Those that fsspec has a system for, with ranges."""

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)


class RemotePath(type(Path())):  # type: ignore[misc]  # the class that `Path()` makes here
    """An address as a path: its parts are the scheme with a colon, the bucket or host, the rest."""

    __slots__ = ()

    def __str__(self) -> str:
        scheme, *rest = self.parts
        return f"{scheme}//{'/'.join(rest)}"

    def __fspath__(self) -> str:
        return str(self)

    @property
    def scheme(self) -> str:
        """Return what comes before the colon."""
        return str(self.parts[0].removesuffix(":"))

    def system(self) -> System:
        """Return whoever answers for this path; raises FileNotFoundError above a bucket."""
        from sentinel.remote.systems import system_of  # noqa: PLC0415 - only where one is used

        if len(self.parts) < 2:  # noqa: PLR2004 - the scheme alone
            raise FileNotFoundError(2, "is no place", str(self))
        return system_of(self.scheme)

    def status(self) -> Status:
        """Return what lies there now; raises OSError."""
        return self.system().status(str(self))

    def open_ranges(self) -> RangeFile:
        """Open the file for reading at any place; raises OSError."""
        from sentinel.remote.ranges import RangeFile  # noqa: PLC0415 - only where one is used

        return RangeFile(self.system(), str(self))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002 - as Path's
        """Return size, time and identity, asked anew; raises OSError."""
        found = self.status()
        mode = stat.S_IFDIR if found.is_directory else stat.S_IFREG
        seconds = found.mtime_ns // 1_000_000_000
        plain = (mode, found.inode, found.device, 1, 0, 0, found.size_bytes, *[seconds] * 3)
        return os.stat_result(plain, {"st_mtime_ns": found.mtime_ns})

    def relative_to(self, *other: Any, **how: Any) -> Path:
        """Return what is left of the path below another one: no address any more."""
        return Path(*super().relative_to(*other, **how).parts)

    def is_symlink(self) -> bool:
        """Tell that no remote system has links."""
        return False

    def resolve(self, strict: bool = False) -> Self:  # noqa: ARG002, FBT001, FBT002 - as Path's
        """Return the path: it is whole."""
        return self

    def absolute(self) -> Self:
        """Return the path: it is whole."""
        return self

    def open(self, mode: str = "r", *_buffering: int, **text: Any) -> IO[Any]:
        """Open the file for reading."""
        file = BufferedReader(self.open_ranges())
        return file if "b" in mode else TextIOWrapper(file, **text)


def place_of(text: str | os.PathLike[str]) -> Path:
    """Return a path of this machine, or an address with a known scheme as a `RemotePath`.

    Raises ConfigError for another scheme, and for an address that carries a secret or a query,
    which would end up in reports.
    """
    if isinstance(text, RemotePath):
        return text
    match = _ADDRESS.fullmatch(os.fspath(text))
    if match is None:
        return Path(text)
    scheme, rest = match["scheme"].lower(), match["rest"]
    shown = f"address '{scheme}://{rest.rpartition('@')[2].partition('?')[0]}'"
    if scheme not in SCHEMES:
        known = ", ".join(sorted(SCHEMES))
        raise ConfigError(shown, fact=f"'{scheme}' is no known scheme", todo=f"known are {known}")
    user, at, _host = rest.partition("/")[0].rpartition("@")
    if "?" in rest or "#" in rest or (at and ":" in user):
        raise ConfigError(
            shown,
            fact="carries a query or a password, which would be written into reports",
            todo="give the address alone, and credentials in the environment",
        )
    return RemotePath(f"{scheme}:", *rest.split("/"))


def is_remote(path: object) -> bool:
    """Tell whether a path is an address."""
    return isinstance(path, RemotePath)
