"""Stopping the process that a pid file names, and never another one.

A pid is given again once its process is gone, and a file outlives the process that wrote it, so
the number alone says nothing. The process must have begun before the file was written and before
the faulty checkpoint was, and the words the user gave must stand in its command line. The signal
goes through a descriptor of that very process where the system has one (Linux 5.3).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from sentinel.checkpoint import path_text
from sentinel.daemon.hook_result import HookResult
from sentinel.daemon.process import ProcessIdentity, identify, living
from sentinel.errors import InputError, TrainerError
from sentinel.regular import open_file
from sentinel.supervision import Hook

_FILE_BYTES = 1024
_MOST_PID = 2**31 - 1

_SLACK_S = 2.0
"""Times of files and of processes come from two clocks; the second is rounded on Linux."""

_GONE_S = 15.0
"""After SIGKILL a process only has to give back its memory."""


def named_process(hook: Hook, written_s: float) -> ProcessIdentity:
    """Return the process that a hook's pid file names.

    ``written_s`` is when the faulty checkpoint was written (seconds since 1970). Raises
    TrainerError when the file names none, or one that cannot be the trainer.
    """
    path = hook.pid_file or Path()
    try:
        with open_file(path) as file:
            text = file.read(_FILE_BYTES) or b""
            noted_s = os.fstat(file.fileno()).st_mtime
    except (OSError, InputError) as error:
        fact = error.strerror or str(error) if isinstance(error, OSError) else error.fact
        raise _wrong(path, fact.lower()) from error
    pid = _number(text)
    if pid is None:
        raise _wrong(path, "holds no pid")
    try:
        process = psutil.Process(pid)
        began_s, identity = process.create_time(), identify(process)
        command = " ".join(process.cmdline())
    except psutil.Error as error:
        there = isinstance(error, psutil.AccessDenied)
        fact = "may not be looked at" if there else "is not there any more"
        raise _wrong(path, f"names process {pid}, which {fact}") from error
    if process in (psutil.Process(), *psutil.Process().parents()):
        raise _wrong(path, f"names process {pid}, which is sentinel itself or runs it")
    if began_s > noted_s + _SLACK_S:
        raise _wrong(path, f"names process {pid}, which began after the file was written")
    if began_s > written_s + _SLACK_S:
        raise _wrong(path, f"names process {pid}, which began after the checkpoint was written")
    if hook.process is None or hook.process not in command:
        shown = command[:80] or process.name()
        raise _wrong(path, f"names process {pid}, '{shown}', which is no '{hook.process}'")
    return identity


class PidStop:
    """Stopping one process: SIGTERM at once, SIGKILL to it and all below it where that is asked."""

    def __init__(
        self,
        identity: ProcessIdentity,
        hook: Hook,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._hook = hook
        self._clock = clock
        self._began_s = clock()
        self._killed_s: float | None = None
        self._result: HookResult | None = None
        if not _send(identity, signal.SIGTERM):
            self._result = self._good("had ended by itself")

    def poll(self) -> HookResult | None:
        """Return what came of it, None while the process still has time."""
        if self._result is None:
            self._result = self._look()
        return self._result

    def _look(self) -> HookResult | None:
        passed_s = self._clock() - self._began_s
        if living(self._identity) is None:
            by = "SIGTERM" if self._killed_s is None else "SIGKILL"
            return self._good(f"ended by {by} after {passed_s:.1f} s")
        if self._killed_s is not None:
            if self._clock() - self._killed_s < _GONE_S:
                return None
            return self._bad(f"is still there {_GONE_S:g} s after SIGKILL")
        if self._hook.kill_after_s is None:
            if passed_s < self._hook.timeout_s:
                return None
            fact = f"is still there {self._hook.timeout_s:g} s after SIGTERM"
            return self._bad(f"{fact}; kill_after_s would end it")
        if passed_s >= self._hook.kill_after_s:
            self._killed_s = self._clock()
            self._kill()
        return None

    def _kill(self) -> None:
        process = living(self._identity)
        below = []
        with suppress(psutil.Error):
            below = process.children(recursive=True) if process else []
        _send(self._identity, signal.SIGKILL)
        for one in below:
            with suppress(psutil.Error):
                one.kill()  # psutil compares start times first

    def _good(self, words: str) -> HookResult:
        return HookResult.good(f"process {self._identity.pid} {words}", pid=self._identity.pid)

    def _bad(self, words: str) -> HookResult:
        return HookResult.bad(f"process {self._identity.pid} {words}", pid=self._identity.pid)


def _send(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal a process; False when it is gone. Raises TrainerError when that is not allowed."""
    descriptor = -1
    try:
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):  # no pidfd in this kernel or sandbox, or no such process
                descriptor = os.pidfd_open(identity.pid)
        # Looked at after the descriptor was had: from here on it stands for this process alone.
        process = living(identity)
        if process is None:
            return False
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, number)
        else:
            process.send_signal(number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    except (PermissionError, psutil.AccessDenied) as error:
        raise TrainerError(
            f"process {identity.pid}",
            fact="may not be signalled by this user",
            todo="run sentinel as the user who trains",
        ) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def _number(text: bytes) -> int | None:
    words = text.split()
    if not words or not words[0].isdigit() or len(words[0]) > len(str(_MOST_PID)):
        return None
    pid = int(words[0])
    return pid if 1 < pid <= _MOST_PID else None


def _wrong(path: Path, fact: str) -> TrainerError:
    return TrainerError("pid file", where=f"'{path_text(path)}'", fact=fact)
