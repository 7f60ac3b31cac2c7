"""Every process that came out of one start of a trainer, found and stopped as a whole.

A descendant can leave its parent (fork twice), its session (setsid) and its environment, so
a process belongs to the tree when any of these holds: it was seen below a member before, it is
below one now, it shares a member's session, or its environment carries the tree's mark.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil

from sentinel.errors import TrainerError

MARK = "SENTINEL_ATTEMPT"
"""The environment variable that names the start a process came out of."""

# A member may fork while the others are waited for, so the tree is searched again this often.
_SEARCH_S = 0.25
_FOLLOW_S = 0.5
_FOLLOW_REST = 50  # a search takes 20-40 ms for 300 processes
# Where the system has no pidfd to wait on (macOS, Linux before 5.3), ends are looked for.
_LOOK_S = 0.05
# After SIGKILL a process only has to give back its memory; tens of GB take a few seconds.
_KILL_S = 15.0
_QUIET_SEARCHES = 2

_DEAD = frozenset({psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD})


@dataclass(frozen=True, slots=True)
class StoppedTree:
    """The pids that were asked to end (SIGTERM), those that had to be killed, and the time."""

    asked: tuple[int, ...]
    killed: tuple[int, ...]
    took_s: float


@dataclass(frozen=True, slots=True)
class _Row:
    process: psutil.Process
    ppid: int
    session: int
    dead: bool


class ProcessTree:
    """The living processes of one start, remembered from search to search.

    ``mark`` is the value of `MARK` that the trainer was started with. ``root`` is the process
    that was started, and must lead a session of its own; without it (it ended before we came)
    the mark alone leads to what it left behind. The root's exit status is never taken: that is
    for whoever started it.
    """

    def __init__(self, mark: str, root: psutil.Process | None = None) -> None:
        self._mark = mark
        self._root = root
        self._known = {root} if root else set()
        self._sessions = {root.pid} if root else set()
        self._groups: set[int] = set()
        self._follow_at_s = -math.inf

    def follow(self) -> None:
        """Note new descendants while they can still be traced, without reading environments.

        Call it every second or so while the trainer lives: what leaves parent, session and
        environment all at once is traceable only before. On a machine with many processes it
        passes calls over, to stay below a fiftieth of one core.
        """
        began = time.monotonic()
        if began >= self._follow_at_s:
            self._search(by_mark=False)
            ended = time.monotonic()
            self._follow_at_s = ended + max(_FOLLOW_S, _FOLLOW_REST * (ended - began))

    def members(self) -> list[psutil.Process]:
        """Return the processes of the tree that are alive now, without zombies."""
        return self._search(by_mark=True)

    def stop(self, grace_s: float) -> StoppedTree:
        """End every process of the tree and return when none of them is left.

        Each gets SIGTERM once, also one born meanwhile; what lives after ``grace_s`` seconds
        gets SIGKILL until nothing is found any more. On an empty tree nothing happens.

        Raises:
            TrainerError: a process outlives SIGKILL or may not be signalled.

        """
        began = time.monotonic()
        asked = self._ask(began + grace_s)
        killed = self._kill()
        return StoppedTree(_pids(asked), _pids(killed), time.monotonic() - began)

    def _ask(self, deadline: float) -> set[psutil.Process]:
        asked: set[psutil.Process] = set()
        while living := self.members():
            for process in living:
                if process not in asked:
                    _send(process, signal.SIGTERM)
                    _send(process, signal.SIGCONT)  # a stopped one would not hear it
            asked.update(living)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            wait_any(living, min(left_s, _SEARCH_S))
        return asked

    def _kill(self) -> set[psutil.Process]:
        killed: set[psutil.Process] = set()
        groups: set[int] = set()
        deadline = time.monotonic() + _KILL_S
        quiet = 0
        # Reading the process table takes a moment, in which one may fork behind the reader and
        # end before it: empty is believed the second time, after the groups were killed.
        while quiet < _QUIET_SEARCHES:
            living = self.members()
            if living and time.monotonic() > deadline:
                raise _stuck(living)
            groups |= self._groups
            for group in groups:
                _kill_group(group)
            for process in living:
                _send(process, signal.SIGKILL)
            killed.update(living)
            quiet = 0 if living else quiet + 1
            if living:
                wait_any(living, _SEARCH_S)
        return killed

    def _search(self, *, by_mark: bool) -> list[psutil.Process]:
        rows = _everyone()
        ours = {row for row in rows if self._is_ours(row, by_mark=by_mark)}
        ours |= _below(ours, rows)
        living = [row.process for row in ours if not row.dead]
        self._known = set(living)
        # The number of a session or group may be given again once its last process is gone,
        # so only those seen just now are kept; a zombie still holds its own. A session 0 stands
        # for one outside this container.
        self._sessions = {row.session for row in ours} - {0, os.getsid(0)}
        self._groups = {_group_of(row.process) for row in ours} - {0, os.getpgid(0)}
        for row in ours:
            if row.dead and row.ppid == os.getpid() and row.process != self._root:
                _reap(row.process.pid)
        return living

    def _is_ours(self, row: _Row, *, by_mark: bool) -> bool:
        return (
            row.process in self._known
            or row.session in self._sessions
            or (by_mark and _mark_of(row.process) == self._mark)
        )


def wait_any(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    """Wait until one of the processes has ended, at most ``timeout_s`` seconds.

    No exit status is taken from any of them.
    """
    if not hasattr(os, "pidfd_open"):
        time.sleep(min(timeout_s, _LOOK_S))
        return
    try:
        with ExitStack() as opened:
            poller = select.poll()
            for process in processes:
                descriptor = os.pidfd_open(process.pid)
                opened.callback(os.close, descriptor)
                poller.register(descriptor, select.POLLIN)
            poller.poll(max(0.0, timeout_s) * 1000)
    except ProcessLookupError:
        return
    except OSError:  # no pidfd in this kernel or sandbox, or no descriptor left
        time.sleep(min(timeout_s, _LOOK_S))


def _everyone() -> list[_Row]:
    rows = []
    for pid in psutil.pids():
        if pid == os.getpid():
            continue
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            with process.oneshot():
                dead = process.status() in _DEAD
                rows.append(_Row(process, process.ppid(), _session_of(pid), dead))
    return rows


def _below(members: set[_Row], rows: list[_Row]) -> set[_Row]:
    children: defaultdict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        children[row.ppid].append(row)
    found: set[_Row] = set()
    todo = [row.process.pid for row in members]
    while todo:
        fresh = [row for row in children.pop(todo.pop(), ()) if row not in members]
        found.update(fresh)
        todo.extend(row.process.pid for row in fresh)
    return found


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # another user's, or gone
        return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    # psutil compares start times first, so a reused pid is never signalled. Who may not be
    # signalled is found alive at the end and named there.
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _group_of(process: psutil.Process) -> int:
    with suppress(OSError):
        group = os.getpgid(process.pid)
        return group if process.is_running() else 0
    return 0


def _kill_group(group: int) -> None:
    # The kernel signals a group in one go and restarts forks under way, so a group cannot
    # outrun this by forking, as it can outrun a search.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _pids(processes: set[psutil.Process]) -> tuple[int, ...]:
    return tuple(sorted(process.pid for process in processes))


def _stuck(living: list[psutil.Process]) -> TrainerError:
    process = min(living, key=lambda process: process.pid)
    state = "gone"
    with suppress(psutil.Error):
        state = str(process.status())
    return TrainerError(
        f"trainer process {process.pid}",
        fact=f"is still there (state {state}) {_KILL_S:g} s after SIGKILL",
        todo="end it by hand or wait for the device it hangs on, then start sentinel again",
    )
