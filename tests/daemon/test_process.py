"""A supervised trainer is one tree: nothing of it escapes, nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from sentinel.daemon.process import Ended, ProcessIdentity, TrainerProcess, remains
from sentinel.daemon.process_linux import become_subreaper
from sentinel.daemon.process_tree import MARK
from sentinel.errors import TrainerError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sentinel run is POSIX only")

PATIENCE_S = 20.0

# What the trainers below share: report a pid by a file that appears whole, and stay alive.
PRELUDE = """
import os, signal, sys, time
from pathlib import Path
here = Path(sys.argv[1])
def report(name):
    (here / (name + ".part")).write_text(str(os.getpid()))
    (here / (name + ".part")).rename(here / name)
def stay():
    while True:
        signal.pause()
"""


@pytest.fixture(autouse=True)
def _subreaper() -> None:
    become_subreaper()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], TrainerProcess]]:
    """Start Python code as a trainer; at the end nothing with its mark is left."""
    marks: list[str] = []

    def start_code(code: str) -> TrainerProcess:
        marks.append(f"{tmp_path.name}-{os.getpid()}-{len(marks)}")
        argv = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(tmp_path)]
        return TrainerProcess.start(argv, mark=marks[-1], cwd=tmp_path, env=os.environ)

    yield start_code
    for mark in marks:
        remains(mark).stop(grace_s=0)


def wait_for(fact: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, f"never so: {what}"
        time.sleep(0.01)


def reported(directory: Path, name: str) -> int:
    wait_for((directory / name).exists, f"{name} reported its pid")
    return int((directory / name).read_text())


def alive(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_exit_code_is_the_trainers_own(start):
    """A trainer that ends by itself is ended with its own code, again at every later look."""
    trainer = start("sys.exit(7)")

    assert Ended(7) == trainer.wait(PATIENCE_S)
    assert Ended(7) == trainer.poll()
    assert trainer.members() == ()


def test_wait_gives_up_while_it_runs(start):
    """Waiting for a running trainer ends with None when the time is over."""
    trainer = start("stay()")

    assert trainer.wait(0.01) is None
    assert trainer.poll() is None
    assert (trainer.identity.pid,) == trainer.members()


def test_dead_at_start(start):
    """A trainer that dies before anybody looks still has an identity and an exit code."""
    trainer = start("os.kill(os.getpid(), signal.SIGKILL)")

    assert Ended(-signal.SIGKILL) == trainer.wait(PATIENCE_S)
    assert Ended(-signal.SIGKILL) == trainer.stop(grace_s=0).ended


def test_stop_asks_first(start, tmp_path):
    """A trainer that ends at SIGTERM is never killed, and its own exit code is reported."""
    trainer = start(
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        report("root")
        stay()
        """
    )
    root = reported(tmp_path, "root")

    report = trainer.stop(grace_s=PATIENCE_S)

    assert Ended(5) == report.ended
    assert (root,) == report.asked
    assert report.killed == ()


def test_stop_twice(start):
    """A second stop finds nothing, does nothing and reports the same end."""
    trainer = start("stay()")
    first = trainer.stop(grace_s=PATIENCE_S)

    second = trainer.stop(grace_s=PATIENCE_S)

    assert first.ended == second.ended
    assert () == second.asked == second.killed


def test_stop_kills_what_ignores_sigterm(start, tmp_path):
    """A whole tree that ignores SIGTERM is gone after the grace."""
    trainer = start(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            report("grandchild" if os.fork() == 0 else "child")
            stay()
        report("root")
        stay()
        """
    )
    pids = [reported(tmp_path, name) for name in ("root", "child", "grandchild")]

    report = trainer.stop(grace_s=0.1)

    assert Ended(-signal.SIGKILL) == report.ended
    assert tuple(sorted(pids)) == report.asked == report.killed
    assert not any(alive(pid) for pid in pids)


def test_stop_reaches_a_stopped_process(start, tmp_path):
    """A process that was suspended hears the SIGTERM and need not be killed."""
    trainer = start('report("root"); stay()')
    root = reported(tmp_path, "root")
    os.kill(root, signal.SIGSTOP)
    wait_for(lambda: psutil.Process(root).status() == psutil.STATUS_STOPPED, "stopped")

    assert trainer.stop(grace_s=PATIENCE_S).killed == ()


DAEMON = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        report("daemon")
        stay()
    os._exit(0)
os.wait()
report("root")
"""


def test_daemon_that_outlived_its_root(start, tmp_path):
    """A descendant that forked twice and left the session is stopped, its root long dead."""
    trainer = start(DAEMON)
    daemon = reported(tmp_path, "daemon")
    assert Ended(0) == trainer.wait(PATIENCE_S)
    assert (daemon,) == trainer.members()

    report = trainer.stop(grace_s=0.1)

    assert (daemon,) == report.killed
    assert not alive(daemon)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
def test_orphans_are_reaped(start, tmp_path):
    """An orphan of the tree leaves no zombie behind, also when it ends by itself."""
    trainer = start(DAEMON + "stay()")
    daemon = reported(tmp_path, "daemon")
    wait_for(lambda: psutil.Process(daemon).ppid() == os.getpid(), "adopted by us")
    assert daemon in trainer.members()

    os.kill(daemon, signal.SIGKILL)

    wait_for(lambda: trainer.poll() is None and not psutil.pid_exists(daemon), "reaped")


BARE = """
if not (here / "followed").exists():
    (here / "bare").touch()
while not (here / "followed").exists():
    time.sleep(0.01)
if os.fork() != 0:
    os._exit(0)
report("daemon")
stay()
"""


def test_daemon_without_environment(start, tmp_path):
    """A descendant that loses its mark and then its parent is known from being followed."""
    (tmp_path / "bare.py").write_text(PRELUDE + BARE)
    trainer = start(
        """
        if os.fork() == 0:
            os.setsid()
            os.execve(sys.executable, [sys.executable, here / "bare.py", here], {})
        stay()
        """
    )
    wait_for((tmp_path / "bare").exists, "the child without environment runs")
    assert trainer.poll() is None
    (tmp_path / "followed").touch()
    daemon = reported(tmp_path, "daemon")
    assert MARK not in psutil.Process(daemon).environ()

    trainer.stop(grace_s=PATIENCE_S)

    assert not alive(daemon)


def test_fork_while_being_stopped(start, tmp_path):
    """Children born at the SIGTERM, and theirs, are found and stopped as well."""
    trainer = start(
        """
        def flee(*_):
            if os.fork() == 0:
                os.setsid()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                report(f"late-{os.getpid()}")
                stay()
        signal.signal(signal.SIGTERM, flee)
        report("root")
        stay()
        """
    )
    reported(tmp_path, "root")

    trainer.stop(grace_s=0.5)

    late = [int(path.read_text()) for path in tmp_path.glob("late-*[0-9]")]
    assert late
    assert not any(alive(pid) for pid in late)


def test_tree_that_never_stops_forking(start, tmp_path):
    """A group that replaces itself faster than it can be listed is killed as a group."""
    trainer = start(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        report("root")
        while True:
            if os.fork() != 0:
                time.sleep(0.002)
                os._exit(0)
        """
    )
    reported(tmp_path, "root")

    trainer.stop(grace_s=0)

    wait_for(lambda: trainer.poll() and not group_exists(trainer.identity.pid), "all reaped")


def test_others_are_left_alone(start, tmp_path):
    """Sentinel's own children, also in sessions of their own, survive the stopping of a tree."""
    start('report("other")\nstay()')
    mine = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    apart = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    other = reported(tmp_path, "other")
    trainer = start("stay()")

    report = trainer.stop(grace_s=PATIENCE_S)

    assert (trainer.identity.pid,) == report.asked
    assert alive(other)
    for process in (mine, apart):
        assert process.poll() is None
        process.communicate(b"\n", timeout=PATIENCE_S)
        assert process.returncode == 0


def test_signals_go_to_the_group(start, tmp_path):
    """A signal passed on reaches the trainer behind a wrapper, and no process after the end."""
    trainer = start(
        """
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, lambda *_: os._exit(9))
            report("child")
            stay()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
        """
    )
    reported(tmp_path, "child")

    trainer.send_signal(signal.SIGINT)

    assert Ended(9) == trainer.wait(PATIENCE_S)
    trainer.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("argv", "fact"),
    [
        (["no-such-command-anywhere"], "was not found"),
        (["./plain.txt"], "is not executable"),
        (["./no-program"], "cannot be started"),
        (["a\0b"], "cannot be started"),
        ([], "is empty"),
    ],
)
def test_cannot_start(tmp_path, argv, fact):
    """A command that cannot be started is one sentence that names it and why."""
    (tmp_path / "plain.txt").write_text("text")
    (tmp_path / "no-program").write_text("text")
    (tmp_path / "no-program").chmod(0o755)

    with pytest.raises(TrainerError, match=fact):
        TrainerProcess.start(argv, mark="m", cwd=tmp_path, env=os.environ)


def test_cannot_start_in_no_directory(tmp_path):
    """A missing working directory is not blamed on the command."""
    with pytest.raises(TrainerError, match="no such directory"):
        TrainerProcess.start(["true"], mark="m", cwd=tmp_path / "gone", env={})


def test_output_goes_to_the_file(tmp_path):
    """Both output streams land in the file, the input is empty, the environment is as given."""
    code = "import os, sys; print(sys.stdin.read() + os.environ['X']); sys.exit('last words')"
    with (tmp_path / "log").open("wb") as log:
        trainer = TrainerProcess.start(
            [sys.executable, "-c", code], mark="m", cwd=tmp_path, env={"X": "x"}, stdout=log
        )
        assert Ended(1) == trainer.wait(PATIENCE_S)

    assert {"x", "last words"} == set((tmp_path / "log").read_text().split("\n")) - {""}


STARTER = """
import os, sys
from pathlib import Path
from sentinel.daemon.process import TrainerProcess
code, here, mark = sys.argv[1:]
trainer = TrainerProcess.start(
    [sys.executable, "-c", code, here], mark=mark, cwd=Path(here), env=os.environ)
(Path(here) / "identity").write_text(f"{trainer.identity.pid} {trainer.identity.started_s!r}")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[tuple[ProcessIdentity, str]]:
    """A trainer whose sentinel was killed by SIGKILL right after starting it."""
    mark = f"orphan-{os.getpid()}-{tmp_path.name}"
    code = PRELUDE + "if os.fork() == 0: os.setsid(); report('child'); stay()\nstay()"
    killed = subprocess.run(
        [sys.executable, "-c", STARTER, code, str(tmp_path), mark],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=PATIENCE_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    pid, started_s = (tmp_path / "identity").read_text().split()
    reported(tmp_path, "child")
    yield ProcessIdentity(int(pid), float(started_s)), mark
    remains(mark).stop(grace_s=0)


def test_adopt(orphan, tmp_path):
    """A trainer that outlived its sentinel is taken over and stopped whole, code unknown."""
    identity, mark = orphan
    trainer = TrainerProcess.adopt(identity, mark=mark)
    assert trainer is not None
    assert trainer.poll() is None
    child = reported(tmp_path, "child")
    assert {identity.pid, child} == set(trainer.members())

    report = trainer.stop(grace_s=PATIENCE_S)

    assert report.ended.code is None
    assert not alive(identity.pid)
    assert not alive(child)
    assert TrainerProcess.adopt(identity, mark=mark) is None


def test_find_without_a_pid(orphan):
    """A trainer whose pid was never written down is found by its mark, as itself."""
    identity, mark = orphan

    found = TrainerProcess.find(mark)

    assert found is not None
    assert identity == found.identity
    found.stop(grace_s=PATIENCE_S)
    assert TrainerProcess.find(mark) is None


def test_adopt_never_takes_another(orphan):
    """The same pid with another start time is another process: not adopted, not touched."""
    identity, mark = orphan

    another = ProcessIdentity(identity.pid, identity.started_s - 1)

    assert TrainerProcess.adopt(another, mark=mark) is None
    assert alive(identity.pid)


def test_remains_by_mark_alone(orphan, tmp_path):
    """What a start left behind is found without knowing any pid."""
    identity, mark = orphan
    child = reported(tmp_path, "child")
    os.kill(identity.pid, signal.SIGKILL)
    wait_for(lambda: not alive(identity.pid), "root is dead")

    assert (child,) == remains(mark).stop(grace_s=PATIENCE_S).asked

    assert not alive(child)
    assert remains(mark).members() == []
