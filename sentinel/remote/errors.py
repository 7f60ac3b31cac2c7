"""What the libraries of remote systems raise, as the one error that readers know how to tell."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sentinel.errors import SentinelError


class RemoteError(OSError):
    """A remote system refused or gave no answer; ``strerror`` says it in a few words."""


class RemoteChangedError(RemoteError):
    """The file is another one than when it was opened."""


_GONE = frozenset({404, 410})
_SHOWN = 160


class _Kind(NamedTuple):
    """One thing that goes wrong: how its errors are called, what they carry, and what it means."""

    number: int
    words: str
    statuses: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


_KINDS = (
    _Kind(errno.EACCES, "access is denied", frozenset({401, 403}), ("PermissionError",)),
    _Kind(
        errno.EACCES,
        "the environment holds no credentials for it",
        names=("Credential", "RefreshError"),
    ),
    _Kind(errno.ETIMEDOUT, "its server gave no answer in time", names=("Timeout",)),
    _Kind(errno.EHOSTUNREACH, "its server cannot be reached", names=("Connect",)),
    _Kind(
        errno.ENOTSUP,
        "its server gives no parts of a file, so it would have to be copied here first",
        says=("range requests", "seek streaming"),
    ),
)
"""The first that fits is told; the classes are many, their names alike."""


@contextmanager
def asking(address: str) -> Iterator[None]:
    """Turn whatever a driver raises into OSError; what is sentinel's own goes through."""
    try:
        yield
    except SentinelError:
        raise
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own
        raise told(address, error) from None


def told(address: str, error: BaseException) -> OSError:
    """Return what an error of a remote system means.

    The libraries wrap what happened several times over, so the chain of causes is looked
    through, by status and by the classes' names.
    """
    chain = tuple(_causes(error))
    statuses = {status for one in chain if (status := _status(one)) is not None}
    names = " ".join(base.__name__ for one in chain for base in type(one).__mro__)
    text = " ".join(str(one) for one in chain)
    if "FileExpired" in names or 412 in statuses:  # noqa: PLR2004 - "Precondition Failed"
        return RemoteChangedError(errno.ESTALE, "was written anew while it was read", address)
    for kind in _KINDS:
        named = any(name in names for name in kind.names)
        if named or statuses & kind.statuses or any(words in text for words in kind.says):
            return RemoteError(kind.number, kind.words, address)
    if statuses - _GONE:
        return RemoteError(errno.EIO, f"its server answers with {max(statuses)}", address)
    if "NotFound" in names or statuses:
        return FileNotFoundError(errno.ENOENT, "is not there", address)
    first = (str(error).splitlines() or [""])[0][:_SHOWN]
    return RemoteError(errno.EIO, f"{type(error).__name__}: {first}", address)


def _causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of aiohttp, botocore or requests carries."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for value in (getattr(error, "status", None), getattr(response, "status_code", response)):
        if isinstance(value, int):
            return value
    return None
