"""The other side of `IsolatedWorker`: a process that runs one call after another and may die.

Requests come as framed pickles on standard input and answers leave the same way on what was
standard output; anything the called code prints goes to standard error instead.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Sequence
from queue import SimpleQueue
from typing import BinaryIO

from sentinel.engines.without_pandas import leave_pandas_out
from sentinel.priority import Priority

_LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def send(file: BinaryIO, data: bytes) -> None:
    """Write one frame: its length, then its bytes."""
    file.write(_LENGTH.pack(len(data)))
    file.write(data)
    file.flush()


def receive(file: BinaryIO) -> bytes | None:
    """Read one frame, None when the other side is gone, in the middle of a frame too."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = file.read(length)
    return data if len(data) == length else None


def serve(*, parent_pid: int, priority: Priority, imports: Sequence[str], tied: bool) -> None:
    """Answer calls until the parent closes the pipe or dies.

    ``imports`` are loaded before the first. ``tied`` asks the kernel to kill this process with
    the *thread* that started it (Linux).
    """
    leave_pandas_out()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if tied and sys.platform == "linux":
        _die_with_parent(parent_pid)
    priority.take()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # for what is no Python
    sys.stdout = sys.stderr
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_collect, args=(sys.stdin.buffer, requests), daemon=True).start()
    for module in imports:
        importlib.import_module(module)
    while True:
        send(answers, _answer(requests.get()))


def _die_with_parent(parent_pid: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(0)


def _collect(pipe: BinaryIO, requests: SimpleQueue[bytes]) -> None:
    # A thread of its own, so that the end of the pipe ends the process in the middle of a call.
    while (request := receive(pipe)) is not None:
        requests.put(request)
    os._exit(0)


def _answer(request: bytes) -> bytes:
    try:
        fn, args = pickle.loads(request)  # noqa: S301 - written by our own parent
        return pickle.dumps((True, fn(*args)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the parent
        error.add_note(f"in the worker process:\n{traceback.format_exc()}")
        return _pickled_error(error)


def _pickled_error(error: Exception) -> bytes:
    try:
        data = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(data)  # noqa: S301 - many exceptions pickle but do not come back
    except Exception:  # noqa: BLE001 - pickling runs the exception's own code
        standin = RuntimeError(f"{type(error).__qualname__}: {error}")
        return pickle.dumps((False, standin), pickle.HIGHEST_PROTOCOL)
    return data
