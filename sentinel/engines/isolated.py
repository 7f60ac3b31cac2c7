"""Work in a child process that may die: mapped reads (SIGBUS), hostile files, hangs.

A file truncated under a mapping raises SIGBUS, which Python cannot catch, so such work runs
where its death costs one checkpoint's reading and nothing else. The child is a plain
interpreter rather than `multiprocessing`'s: that would import the user's main module again.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, TypeVarTuple, cast

from sentinel.engines.isolated_child import receive, send
from sentinel.errors import WorkerDiedError, WorkerTimeoutError
from sentinel.priority import Priority

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

# Time for a child that is told to end, or killed, to be gone. One stuck in the kernel (a network
# file system that hangs) outlives even SIGKILL for a while: it is left behind, not waited for.
_END_S = 2.0

_PIPE_BYTES = 1024 * 1024
"""An adapter's numbers go through at once; in Linux' usual 64 KiB two processes take turns."""

EQUAL = Priority()

_BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "terms = pickle.load(sys.stdin.buffer); "
    "from sentinel.engines.isolated_child import serve; serve(**terms)"
)


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    requests: BinaryIO
    answers: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)

    def collect(self, pipe: BinaryIO) -> None:
        with pipe:
            while (answer := receive(pipe)) is not None:
                self.answers.put(answer)
        self.answers.put(None)


class IsolatedWorker:
    """One child process, started at the first call and again after each death.

    It ignores Ctrl-C, ends when this process does (also by SIGKILL) and gives way as
    ``priority`` says. It imports the modules of ``imports`` when it starts, so that the first
    call need not. Calls from several threads take turns.
    """

    def __init__(self, *, priority: Priority = EQUAL, imports: Sequence[str] = ()) -> None:
        self._priority = priority
        self._imports = tuple(imports)
        self._child: _Child | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the child without waiting for it, so that it is ready when it is called.

        Raises WorkerDiedError when it cannot be started.
        """
        with self._turn:
            self._living_child()

    def call(
        self,
        fn: Callable[[*Arguments], Result],
        *args: *Arguments,
        timeout_s: float | None = None,
    ) -> Result:
        """Return ``fn(*args)``, computed in the child; all of it must pickle.

        What ``fn`` raises is raised here.

        Raises:
            WorkerDiedError: the child was killed or ended before it answered.
            WorkerTimeoutError: no answer in ``timeout_s`` seconds; the child was killed.

        """
        request = pickle.dumps((fn, args), pickle.HIGHEST_PROTOCOL)
        with self._turn:
            answer = self._ask(request, timeout_s)
        done, value = pickle.loads(answer)  # noqa: S301 - written by our own child
        if not done:
            raise cast("BaseException", value)
        return cast("Result", value)

    def close(self) -> None:
        """End the child, kindly first; a later call starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        with suppress(OSError):
            child.requests.close()
        _end(child.process)

    def _ask(self, request: bytes, timeout_s: float | None) -> bytes:
        child = self._living_child()
        try:
            send(child.requests, request)
            answer = child.answers.get(timeout=timeout_s)
        except queue.Empty:
            self._kill()
            raise WorkerTimeoutError(
                "worker process", fact=f"gave no answer in {timeout_s:g} s and was killed"
            ) from None
        except BrokenPipeError:
            answer = None
        except BaseException:
            self._kill()  # its answer would be taken for the next call's
            raise
        if answer is None:
            self._child = None
            raise WorkerDiedError("worker process", fact=_death(child.process))
        return answer

    def _living_child(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._child = _start(self._priority, self._imports)
        return self._child

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.process.kill()
            _end(child.process)


def _start(priority: Priority, imports: Sequence[str]) -> _Child:
    # A process group of its own keeps the terminal's Ctrl-C from a child that cannot ignore it
    # yet. `-P`: a `pickle.py` in the working directory is not ours to import.
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-P", "-c", _BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0 if os.name == "posix" else None,
        )
    except OSError as error:
        raise WorkerDiedError("worker process", fact=f"cannot be started: {error}") from error
    child = _Child(process, cast("BinaryIO", process.stdin))
    answers = cast("BinaryIO", process.stdout)
    _widen(child.requests)
    _widen(answers)
    threading.Thread(target=child.collect, args=(answers,), daemon=True).start()
    terms = {
        "parent_pid": os.getpid(),
        "priority": priority,
        "imports": imports,
        # The kernel ties a child to the thread that made it, and other threads than the main
        # one may end before their process; the end of the pipe covers those.
        "tied": threading.current_thread() is threading.main_thread(),
    }
    with suppress(BrokenPipeError):  # dead already: the call finds out
        child.requests.write(pickle.dumps(sys.path) + pickle.dumps(terms))
        child.requests.flush()
    return child


def _widen(pipe: BinaryIO) -> None:
    """Give a pipe more room where the system has it to give (Linux, up to fs.pipe-max-size)."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - there is none elsewhere

        with suppress(OSError):  # the user's share of such room is taken: it is slower, no more
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def _death(process: subprocess.Popen[bytes]) -> str:
    _end(process)
    code = process.returncode
    if code is None:
        return "does not answer and does not end"
    if code >= 0:
        return f"ended with code {code} before it answered"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name of its own
        return f"was killed by signal {-code}"
