"""A worker may die in any way; its parent learns why and goes on."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from sentinel.engines.isolated import IsolatedWorker
from sentinel.errors import InputError, WorkerDiedError, WorkerTimeoutError
from sentinel.priority import Priority

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")

PATIENCE_S = 20.0
LONG_S = 3600.0


@pytest.fixture(scope="module")
def worker():
    with IsolatedWorker() as worker:
        yield worker


def gone(pid: int) -> bool:
    """Whether its parent can hear that it ended: a first thread may end before the others do."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.01)


def test_result_comes_from_one_other_process(worker):
    """Calls are answered by another process, the same one while it lives."""
    pid = worker.call(os.getpid)

    assert pid != os.getpid()
    assert pid == worker.call(os.getpid)


def test_large_data_both_ways(worker):
    """Requests and answers larger than any pipe's buffer go through."""
    data = os.urandom(3_000_000)

    assert data[::-1] == worker.call(operator.getitem, data, slice(None, None, -1))


def test_error_comes_through(worker):
    """What the called function raises is raised here, with where it was raised over there."""
    with pytest.raises(ZeroDivisionError) as caught:
        worker.call(operator.truediv, 1, 0)

    assert "in the worker process" in caught.value.__notes__[0]
    assert worker.call(operator.truediv, 4, 2) == 2


def test_own_errors_come_through(worker):
    """Sentinel's errors keep their kind and their four parts."""
    error = InputError("file", where="'a'", fact="is torn", todo="save again")

    with pytest.raises(InputError, match="file 'a': is torn; save again") as caught:
        worker.call(eval, "(_ for _ in ()).throw(error)", {"error": error})

    assert caught.value.todo == "save again"


@pytest.mark.parametrize(
    "code", ["lambda: 1", "(_ for _ in ()).throw(type('Odd', (Exception,), {})('x'))"]
)
def test_what_does_not_pickle(worker, code):
    """An answer or error that cannot cross over is an error, not a death."""
    pid = worker.call(os.getpid)

    with pytest.raises(Exception, match=r"pickle|Odd: x") as caught:
        worker.call(eval, code)

    assert not isinstance(caught.value, WorkerDiedError)
    assert pid == worker.call(os.getpid)


def test_request_that_does_not_pickle(worker):
    """A request that cannot cross over fails before anything is sent."""
    pid = worker.call(os.getpid)

    with pytest.raises(Exception, match="pickle"):
        worker.call(lambda: 1)

    assert pid == worker.call(os.getpid)


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGBUS", "SIGSEGV", "SIGTERM"])
def test_killed_by_a_signal(worker, name):
    """A child killed by a signal is an error that names it; the next call finds a new child."""
    pid = worker.call(os.getpid)

    with pytest.raises(WorkerDiedError, match=f"was killed by {name}"):
        worker.call(signal.raise_signal, signal.Signals[name])

    assert worker.call(os.getpid) not in {pid, os.getpid()}


SHRINK = """
import mmap
with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
    file.truncate(0)
    view[0]
"""


@posix
def test_file_that_shrinks_under_its_mapping(worker, tmp_path):
    """The death that this room is for: a mapped file is truncated while it is read."""
    (tmp_path / "file").write_bytes(bytes(10_000))

    with pytest.raises(WorkerDiedError, match="was killed by SIGBUS"):
        worker.call(exec, SHRINK, {"path": tmp_path / "file"})


def test_ended_by_itself(worker):
    """A child that exits in the middle of a call is an error that names its code."""
    with pytest.raises(WorkerDiedError, match="ended with code 3"):
        worker.call(os._exit, 3)


@posix
def test_killed_between_calls(worker):
    """A child that died while nobody asked is replaced in silence."""
    pid = worker.call(os.getpid)
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)

    assert pid != worker.call(os.getpid)


def test_timeout(worker):
    """A call that takes too long is killed, and its answer is never taken for the next one's."""
    pid = worker.call(os.getpid)

    with pytest.raises(WorkerTimeoutError, match=r"no answer in 0\.05 s"):
        worker.call(time.sleep, LONG_S, timeout_s=0.05)

    wait_gone(pid)
    assert worker.call(operator.add, 2, 3, timeout_s=PATIENCE_S) == 5


def test_threads_take_turns(worker):
    """Calls from several threads each get their own answer."""
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = worker.call(operator.neg, number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert {number: -number for number in range(20)} == answers


def test_output_does_not_disturb(capfd):
    """What a called function prints goes to standard error, not between the answers."""
    with IsolatedWorker() as worker:
        assert worker.call(print, "from the child") is None
        assert worker.call(os.system, "echo from a grandchild") == 0

    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["from the child", "from a grandchild"]


@posix
def test_ctrl_c_is_ignored(worker):
    """An interrupt of the child alone changes nothing."""
    pid = worker.call(os.getpid)
    worker.call(signal.raise_signal, signal.SIGINT)

    assert pid == worker.call(os.getpid)


@posix
def test_nice():
    """The child runs below its parent's priority when asked to."""
    with IsolatedWorker(priority=Priority(nice=3)) as worker:
        assert os.nice(0) + 3 == worker.call(os.nice, 0)


@pytest.mark.skipif(not psutil.LINUX, reason="classes of the disk are Linux's")
@pytest.mark.parametrize(("io", "expected"), [("lowest", (2, 7)), ("idle", (3, 0))])
def test_ionice(io, expected):
    """The child gives way at the disk when asked to."""
    with IsolatedWorker(priority=Priority(io=io)) as worker:
        found = psutil.Process(worker.call(os.getpid)).ionice()

    assert (int(found.ioclass), found.value) == expected


def test_a_child_is_ready_before_the_first_call():
    """Started at once, with what the first call will need; the call goes to that child."""
    with IsolatedWorker(imports=["sentinel.engines.pace"]) as worker:
        before = set(psutil.Process().children())
        worker.start()
        (child,) = set(psutil.Process().children()) - before

        assert worker.call(os.getpid) == child.pid
        assert worker.call(eval, "'sentinel.engines.pace' in __import__('sys').modules")


def test_close():
    """Closing ends the child; a later call starts another, which a second close ends."""
    worker = IsolatedWorker()
    worker.close()
    for _ in range(2):
        pid = worker.call(os.getpid)
        worker.close()
        wait_gone(pid)


def test_nothing_is_imported_by_accident(tmp_path, monkeypatch):
    """A module in the working directory is not taken for the standard library's."""
    (tmp_path / "pickle.py").write_text("raise SystemExit('wrong pickle')")
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a relative one would name it
    monkeypatch.chdir(tmp_path)

    with IsolatedWorker() as worker:
        assert worker.call(os.getcwd) == str(tmp_path)


PARENT = """
import os, sys, threading, time
from sentinel.engines.isolated import IsolatedWorker
worker = IsolatedWorker()
if "thread" in sys.argv:
    threading.Thread(target=worker.call, args=(int,)).start()
print(worker.call(os.getpid), flush=True)
if "busy" in sys.argv:
    worker.call(time.sleep, 3600)
input()
"""


@posix
@pytest.mark.parametrize("state", ["idle", "busy", "thread"])
def test_killed_parent_leaves_nobody(state):
    """The child of a parent that is killed by SIGKILL is gone, also from inside a call."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert not gone(pid)

        parent.kill()

    wait_gone(pid)


def test_child_outlives_the_thread_that_started_it():
    """The end of a thread is not the end of the process: a child started there lives on."""
    with IsolatedWorker() as worker:
        pids: list[int] = []
        thread = threading.Thread(target=lambda: pids.append(worker.call(os.getpid)))
        thread.start()
        thread.join(PATIENCE_S)

        assert pids == [worker.call(os.getpid)]
