"""Locks: never two sentinels on one directory, and nobody beside `sentinel run` on its run.

They hold between processes only and end with the process, also by SIGKILL.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sentinel.checkpoint import path_text
from sentinel.errors import GuardedError, StateError


@contextmanager
def guarding_directory(state: Path, root: Path, *, again: bool = False) -> Iterator[None]:
    """Hold the lock of one watched directory, under whatever name it was given.

    With ``again`` this process may hold it already, if it was taken so before: a training that
    was broken off in a notebook has let nothing go.
    """
    with _holding(state, f"directory-{_digest(root)}", "directory", path_text(root), again=again):
        yield


@contextmanager
def guarding_run(state: Path, run_id: str, *, again: bool = False) -> Iterator[None]:
    """Hold the lock of one run: whoever watches a directory around it leaves it alone.

    ``again`` as in `guarding_directory`.
    """
    with _holding(state, _run_name(run_id), "run", run_id, again=again):
        yield


def is_guarded(state: Path, run_id: str) -> bool:
    """Tell whether another sentinel acts on a run just now."""
    path = _path(state, _run_name(run_id))
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        raise _unusable(state, error) from error


@contextmanager
def _holding(state: Path, name: str, what: str, where: str, *, again: bool) -> Iterator[None]:
    path = _path(state, name)
    lock = FileLock(path, timeout=0, is_singleton=again)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise GuardedError(
            what,
            where=f"'{where}'",
            fact="is already guarded by another sentinel",
            todo="stop that one first, or give another --state directory",
        ) from None
    except OSError as error:
        raise _unusable(state, error) from error
    try:
        yield
    finally:
        lock.release()


def _path(state: Path, name: str) -> Path:
    return state / "locks" / f"{name}.lock"


def _run_name(run_id: str) -> str:
    return f"run-{run_id}"


def _digest(root: Path) -> str:
    return hashlib.blake2b(os.fsencode(os.path.realpath(root)), digest_size=16).hexdigest()


def _unusable(state: Path, error: OSError) -> StateError:
    return StateError(
        "state directory",
        where=f"'{state}'",
        fact=f"cannot be used ({error.strerror or error})",
        todo="give another one with --state",
    )
