"""The supervised trainer: started in a session of its own, or found again after a kill of ours."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import psutil

from sentinel.daemon.process_linux import started_ticks
from sentinel.daemon.process_tree import MARK, ProcessTree, wait_any
from sentinel.errors import TrainerError

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 1


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process and no later one of the same pid.

    ``started_s`` counts from boot on Linux, so that setting the clock does not change it, and
    from the epoch elsewhere; compare it for equality only.
    """

    pid: int
    started_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The trainer has ended.

    ``code`` is negative for a signal, None when it cannot be known: only a process's parent is
    told, and an adopted trainer has another one.
    """

    code: int | None


@dataclass(frozen=True, slots=True)
class StopReport:
    """What stopping took: pids asked by SIGTERM, pids killed after the grace, and seconds."""

    ended: Ended
    asked: tuple[int, ...]
    killed: tuple[int, ...]
    took_s: float


class TrainerProcess:
    """A trainer and all its descendants. Make one with `start` or `adopt`."""

    def __init__(
        self, identity: ProcessIdentity, tree: ProcessTree, popen: subprocess.Popen[bytes] | None
    ) -> None:
        self.identity = identity
        self._tree = tree
        self._popen = popen

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        mark: str,
        cwd: Path,
        env: Mapping[str, str],
        stdout: BinaryIO | None = None,
    ) -> Self:
        """Start a command in a new session, reading nothing, and return at once.

        ``mark`` names this start and no other; the whole tree carries it in its environment.
        Both output streams go to ``stdout``, or where sentinel's own go. Terminal signals
        (Ctrl-C) do not reach the session: whoever supervises it passes them on.

        Raises:
            TrainerError: the command cannot be started; nothing runs then.

        """
        if os.name != "posix":
            raise TrainerError(
                "trainer",
                fact="processes can be supervised on Linux and macOS only",
                todo="use 'sentinel watch' beside it",
            )
        try:
            popen = subprocess.Popen(  # noqa: S603 - the user's own command line
                list(argv),
                cwd=_checked(cwd),
                env={**env, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT if stdout else None,
                start_new_session=True,
            )
        except (OSError, ValueError, IndexError) as error:
            raise _cannot_start(argv, error) from error
        # Not reaped before the first poll, so its entry is there even if it died at once.
        root = psutil.Process(popen.pid)
        return cls(identify(root), ProcessTree(mark, root), popen)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, *, mark: str) -> Self | None:
        """Take over a trainer that outlived the sentinel which started it.

        None when it has ended or its pid belongs to another process now; what it left behind
        is then found by `remains`.
        """
        root = living(identity)
        return cls(identity, ProcessTree(mark, root), None) if root else None

    @classmethod
    def find(cls, mark: str) -> Self | None:
        """Take over a trainer whose pid was never written down, by the mark of its start.

        It is the oldest session leader that carries the mark, None when there is none. For a
        sentinel that was killed between starting a trainer and noting its identity.
        """
        leaders = []
        for process in ProcessTree(mark).members():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == process.pid:
                    leaders.append(identify(process))
        oldest = min(leaders, key=lambda identity: identity.started_s, default=None)
        return cls.adopt(oldest, mark=mark) if oldest else None

    def poll(self) -> Ended | None:
        """Tell whether the trainer itself has ended; None while it runs.

        Also notes its new descendants, so call it every second or so. Ended is said of the
        process that was started: others of its tree may live on, see `members`.
        """
        self._tree.follow()
        if self._popen is None:
            return None if living(self.identity) else Ended(None)
        code = self._popen.poll()
        return None if code is None else Ended(code)

    def wait(self, timeout_s: float) -> Ended | None:
        """Wait for the trainer's end, at most ``timeout_s`` seconds."""
        deadline = time.monotonic() + timeout_s
        while (ended := self.poll()) is None:
            left_s = deadline - time.monotonic()
            root = living(self.identity)
            if left_s <= 0:
                return None
            if root:
                wait_any([root], left_s)
        return ended

    def members(self) -> tuple[int, ...]:
        """Return the pids of the tree that are alive, in ascending order."""
        return tuple(sorted(process.pid for process in self._tree.members()))

    def send_signal(self, number: int) -> None:
        """Pass a signal on to the trainer's process group, as a terminal would.

        Nothing happens when the trainer itself has ended.
        """
        if living(self.identity):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.identity.pid, number)

    def stop(self, grace_s: float) -> StopReport:
        """Stop the whole tree and return when none of it is left; a repeat does nothing.

        SIGTERM to all, SIGKILL after ``grace_s`` seconds to the rest.

        Raises:
            TrainerError: a process outlives SIGKILL or may not be signalled.

        """
        tree = self._tree.stop(grace_s)
        ended = self.poll() or Ended(None)
        return StopReport(ended, tree.asked, tree.killed, tree.took_s)


def remains(mark: str) -> ProcessTree:
    """Return what is left of a start whose first process has ended."""
    return ProcessTree(mark)


def identify(process: psutil.Process) -> ProcessIdentity:
    """Return what tells a process from a later one of its pid; raises psutil.Error."""
    ticks = started_ticks(process.pid)
    started_s = process.create_time() if ticks is None else ticks / _TICKS_PER_S
    return ProcessIdentity(process.pid, started_s)


def living(identity: ProcessIdentity) -> psutil.Process | None:
    """Return the process if it is still that one and no zombie."""
    try:
        process = psutil.Process(identity.pid)
        same = identify(process) == identity and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None


def _checked(cwd: Path) -> Path:
    if not cwd.is_dir():
        raise TrainerError(
            "trainer", where=f"in '{cwd}'", fact="there is no such directory to start it in"
        )
    return cwd


def _cannot_start(argv: Sequence[str], error: Exception) -> TrainerError:
    command = f"command '{argv[0]}'" if argv else "command"
    if not argv:
        return TrainerError(command, fact="is empty", todo="name the trainer's command after '--'")
    if isinstance(error, FileNotFoundError):
        fact, todo = "was not found", "check its name, its path and the first line of a script"
    elif isinstance(error, PermissionError):
        fact, todo = "is not executable", "run 'chmod +x' on it or name its interpreter first"
    else:
        fact, todo = f"cannot be started ({error})", ""
    return TrainerError(command, fact=fact, todo=todo)
