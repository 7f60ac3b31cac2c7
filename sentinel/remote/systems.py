"""One remote system: what lies at an address, which names a directory holds, open files.

Through fsspec, whose drivers take credentials, endpoints and proxies from the environment. They
keep no listings here: whether a file changed is asked of the server.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import unquote

from sentinel.errors import ConfigError
from sentinel.remote.errors import RemoteError, asking

KEPT_S = 10.0
"""How long the names in a directory are remembered; sizes and times never are."""

CONNECT_S = 15
READ_S = 60

_WEB = frozenset({"http", "https"})
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_PACKAGES |= {"az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "adl": "adlfs"}
_PACKAGES |= {"http": "aiohttp", "https": "aiohttp"}

_TALKATIVE = frozenset({"gcsfs"})
"""Drivers that warn at each call, as of a permission that is not needed; shown where a program
asks for its logs, and not between verdicts."""

_TIMES = ("LastModified", "mtime", "last_modified", "updated", "created", "Last-Modified")
_MARKS = (
    *("ETag", "etag", "md5Hash", "content_md5", "generation", "VersionId", "blob_id", "oid"),
    *("lfs", "Content-MD5", "Digest"),
)


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of a file; ``inode`` is made of its address and its version."""

    is_directory: bool
    size_bytes: int
    mtime_ns: int
    device: int
    inode: int


@dataclass(slots=True)
class System:
    """The files of one scheme. Its methods raise OSError, see `sentinel.remote.errors`."""

    scheme: str
    files: Any
    _listings: dict[str, tuple[float, Mapping[str, bool]]] = field(default_factory=dict)
    _kinds: dict[str, tuple[float, bool]] = field(default_factory=dict)

    def status(self, address: str) -> Status:
        """Ask what lies at an address; a directory has neither size nor time."""
        with asking(address):
            found = self.files.info(address)
        is_directory = found.get("type") == "directory" or self._is_page(address, found)
        self._kinds[address] = time.monotonic(), is_directory
        size = found.get("size")
        if not is_directory and size is None:
            raise RemoteError(5, "its server does not say how long it is", address)
        at_ns = 0 if is_directory else _time_ns(found)
        marks = [str(found[name]) for name in _MARKS if found.get(name) is not None]
        return Status(
            is_directory=is_directory,
            size_bytes=0 if is_directory else int(size),
            mtime_ns=at_ns,
            device=_number(self.scheme, 31),
            inode=_number("\0".join((address, str(at_ns), *marks)), 63),
        )

    def is_directory(self, address: str) -> bool:
        """Tell whether an address is a directory; what cannot be asked is none."""
        known = self._kinds.get(address)
        if known is not None and time.monotonic() - known[0] < KEPT_S:
            return known[1]
        try:
            return self.status(address).is_directory
        except OSError:
            return False

    def listing(self, address: str) -> Mapping[str, bool]:
        """Return the names in a directory, and of each whether it is a directory."""
        at_s, known = self._listings.get(address, (0.0, {}))
        if address in self._listings and time.monotonic() - at_s < KEPT_S:
            return known
        with asking(address):
            entries = self.files.ls(f"{address}/" if self.scheme in _WEB else address, detail=True)
        own = self.files._strip_protocol(address).rstrip("/")  # noqa: SLF001 - as fsspec's own drivers
        found = {}
        for entry in entries:
            name = str(entry["name"]).rstrip("/")
            below = name.removeprefix(f"{own}/")
            plain = unquote(below) if self.scheme in _WEB else below
            if below != name and _is_name(plain):
                found[plain] = entry.get("type") == "directory"
        now = time.monotonic()
        self._listings[address] = now, found
        # A page of links tells directories by the slash alone, which not every server writes.
        if self.scheme not in _WEB:
            self._kinds |= {f"{address}/{name}": (now, is_one) for name, is_one in found.items()}
        return found

    def open(self, address: str) -> Any:
        """Open a file for reading in ranges of the caller's choice."""
        with asking(address):
            return self.files.open(address, "rb", cache_type="none")

    def _is_page(self, address: str, found: Mapping[str, Any]) -> bool:
        """Tell whether a server answers with a directory's page of links."""
        if self.scheme not in _WEB:
            return False
        is_page = found.get("mimetype") == "text/html" and not address.endswith((".html", ".htm"))
        return is_page or str(found.get("url", "")).endswith("/")


@cache
def system_of(scheme: str) -> System:
    """Return the system of a scheme; raises ConfigError where its package is not installed."""
    package = _PACKAGES.get(scheme, "fsspec")
    with asking(f"{scheme}://"):
        try:
            import fsspec  # noqa: PLC0415 - an extra, and only where an address is given

            for name in _TALKATIVE & {package}:
                logging.getLogger(name).addHandler(logging.NullHandler())
            files = fsspec.filesystem(
                scheme, skip_instance_cache=True, use_listings_cache=False, **_options(scheme)
            )
        except ImportError:
            raise ConfigError(
                f"addresses of '{scheme}'",
                fact=f"need the package {package}",
                todo=f"pip install 'checkpoint-sentinel[remote]' {package}",
            ) from None
    return System(scheme, files)


def _options(scheme: str) -> dict[str, Any]:
    if scheme in _WEB:
        import aiohttp  # noqa: PLC0415 - a package of the extra

        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
        return {"client_kwargs": {"timeout": limits}}
    if scheme in {"s3", "s3a"}:
        return {"config_kwargs": {"connect_timeout": CONNECT_S, "read_timeout": READ_S}}
    return {}


def _is_name(text: str) -> bool:
    """Tell whether a listing names something inside the directory, and not a way out of it."""
    return text not in {"", ".", ".."} and "/" not in text and not text.startswith(("?", "#"))


def _time_ns(found: Mapping[str, Any]) -> int:
    for name in _TIMES:
        value = found.get(name)
        if name == "Last-Modified" and isinstance(value, str):
            value = parsedate_to_datetime(value)
        elif isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return int(value.timestamp()) * 1_000_000_000
        if isinstance(value, int | float):
            return int(value * 1_000_000_000)
    return 0


def _number(text: str, bits: int) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - bits)
