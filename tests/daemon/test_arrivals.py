"""Nothing that appears below a root is missed, by whatever way it comes."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watchdog.observers import inotify_c

from sentinel.daemon import arrivals as arrivals_module
from sentinel.daemon.arrivals import Arrivals, Arrived
from sentinel.daemon.polling import remote_mount

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

PATIENCE_S = 20.0
NEVER_S = 3600.0


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def watch(notes: list[str]) -> Callable[..., Arrivals]:
    """Make Arrivals that never rescan by themselves and look at their roots often."""

    def make(*roots: Path, poll_s: float = 0.05, rescan_s: float = NEVER_S) -> Arrivals:
        return Arrivals(roots, poll_s=poll_s, rescan_s=rescan_s, on_note=notes.append)

    return make


def take_until(arrivals: Arrivals, enough: Callable[[Arrived], bool]) -> Arrived:
    """Gather what arrives until it is enough."""
    deadline = time.monotonic() + PATIENCE_S
    dirty: frozenset[Path] = frozenset()
    closed: frozenset[Path] = frozenset()
    rescan = False
    while True:
        arrived = arrivals.take(PATIENCE_S)
        dirty, closed = dirty | arrived.dirty, closed | arrived.closed
        rescan = rescan or arrived.rescan
        if enough(Arrived(dirty, closed, rescan)):
            return Arrived(dirty, closed, rescan)
        assert time.monotonic() < deadline, f"only {dirty}, {closed}, rescan {rescan}"


def settle_down(arrivals: Arrivals) -> None:
    """Take the first look that every watch begins with."""
    assert arrivals.take(0).rescan


def test_first_look_is_at_everything(watch, tmp_path):
    """Whatever came while nobody watched is found by the first look, and only the first."""
    with watch(tmp_path) as arrivals:
        assert arrivals.take(NEVER_S) == Arrived(frozenset(), frozenset(), rescan=True)
        assert arrivals.take(0) == Arrived(frozenset(), frozenset(), rescan=False)


@linux
def test_a_name_that_was_moved_out_and_taken_again(watch, tmp_path):
    """A quarantine followed by the trainer's own rotation: watchdog 7.1 would end in a KeyError,
    in the thread that hears of everything or when the watch is closed."""
    root = tmp_path / "out"
    place = root / "checkpoint-40"
    place.mkdir(parents=True)
    with watch(root) as arrivals:
        settle_down(arrivals)
        place.rename(tmp_path / "quarantined")
        (root / ".being-written").mkdir()
        take_until(arrivals, lambda it: root in it.dirty)
        (root / ".being-written").rename(place)
        take_until(arrivals, lambda it: root in it.dirty)
        place.rmdir()
        (tmp_path / "quarantined").rmdir()
        later = root / "checkpoint-50"
        later.mkdir()
        take_until(arrivals, lambda it: root in it.dirty)
        later.joinpath("first").touch()
        take_until(arrivals, lambda it: later in it.dirty)
        (later / "adapter.safetensors").write_bytes(b"x")

        take_until(arrivals, lambda it: later / "adapter.safetensors" in it.closed)


@linux
def test_closed_file(watch, tmp_path):
    """A file that is written and closed is closed, in a directory that is dirty."""
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        file = tmp_path / "adapter.safetensors"
        file.write_bytes(b"x")

        arrived = take_until(arrivals, lambda it: bool(it.closed))

    assert arrived == Arrived(frozenset({tmp_path}), frozenset({file}), rescan=False)


def test_directory_made_elsewhere_and_renamed(watch, tmp_path):
    """A checkpoint renamed into place is found under its final name, however deep."""
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "tmp" / "inner").mkdir(parents=True)
    (tmp_path / "tmp" / "inner" / "file").touch()
    with watch(root) as arrivals:
        settle_down(arrivals)
        (tmp_path / "tmp").rename(root / "checkpoint-1")

        take_until(arrivals, lambda it: {root, root / "checkpoint-1"} <= it.dirty)

        (root / "checkpoint-1").rename(root / "checkpoint-2")
        take_until(arrivals, lambda it: root / "checkpoint-2" in it.dirty)


@pytest.mark.filterwarnings("error")
def test_directories_made_in_one_go(watch, tmp_path):
    """Directories below new directories are watched from their first file on, in silence."""
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        deep = tmp_path / "a" / "b" / "c"
        deep.mkdir(parents=True)
        (deep / "file").write_bytes(b"x")

        take_until(arrivals, lambda it: deep in it.dirty or it.rescan)


def test_reading_is_no_news(watch, tmp_path):
    """Sentinel's own reading below a root wakes nobody."""
    (tmp_path / "file").write_bytes(b"x")
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        (tmp_path / "file").read_bytes()
        list(tmp_path.iterdir())
        (tmp_path / "new").touch()

        arrived = take_until(arrivals, lambda it: tmp_path / "new" in it.closed or it.rescan)

    assert tmp_path / "file" not in arrived.closed


def test_root_that_does_not_exist_yet(watch, tmp_path):
    """A root is watched as soon as it appears, and looked through once."""
    root = tmp_path / "output" / "run"
    with watch(root) as arrivals:
        settle_down(arrivals)
        root.mkdir(parents=True)
        take_until(arrivals, lambda it: it.rescan)

        (root / "file").touch()
        take_until(arrivals, lambda it: root in it.dirty)


@pytest.mark.parametrize("how", ["deleted", "moved away"])
def test_root_that_is_made_again(watch, tmp_path, how):
    """A root that is replaced by another directory is watched again."""
    root = tmp_path / "root"
    root.mkdir()
    with watch(root) as arrivals:
        settle_down(arrivals)
        if how == "deleted":
            root.rmdir()
        else:
            root.rename(tmp_path / "old")
        root.mkdir()
        take_until(arrivals, lambda it: it.rescan)

        (root / "file").touch()
        take_until(arrivals, lambda it: root in it.dirty)


def test_root_behind_a_link(watch, tmp_path):
    """Paths are told under the name the user gave, not under where it leads."""
    (tmp_path / "disk").mkdir()
    root = tmp_path / "link"
    root.symlink_to(tmp_path / "disk")
    with watch(root) as arrivals:
        settle_down(arrivals)
        (root / "file").touch()

        arrived = take_until(arrivals, lambda it: bool(it.dirty))

    assert frozenset({root}) == arrived.dirty


def test_several_roots(watch, tmp_path):
    """Each of several roots, also one inside another and one named twice, is watched."""
    outer, other = tmp_path / "a", tmp_path / "b"
    inner = outer / "inner"
    inner.mkdir(parents=True)
    other.mkdir()
    with watch(outer, inner, other, other) as arrivals:
        settle_down(arrivals)
        (inner / "file").touch()
        (other / "file").touch()

        take_until(arrivals, lambda it: {inner, other} <= it.dirty)


def test_rescan_once_in_a_while(watch, tmp_path):
    """Everything is due for a look every so often, events or none."""
    with watch(tmp_path, rescan_s=0.05) as arrivals:
        settle_down(arrivals)

        assert take_until(arrivals, lambda it: it.rescan).rescan


def test_looking_at_everything_is_rare_where_it_takes_long(watch, tmp_path):
    """However many checkpoints there are, it takes less than half a per cent of a core."""
    with watch(tmp_path, rescan_s=0.05) as arrivals:
        settle_down(arrivals)
        arrivals.looked(take_until(arrivals, lambda it: it.rescan), cpu_s=3.0)

        assert not arrivals.take(0.2).rescan


def test_wake_in_a_signal_handler(watch, tmp_path):
    """A signal handler in the waiting thread ends the wait."""
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        before = signal.signal(signal.SIGTERM, lambda *_: arrivals.wake())
        try:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()

            arrived = arrivals.take(None)
        finally:
            signal.signal(signal.SIGTERM, before)

    assert arrived == Arrived(frozenset(), frozenset(), rescan=False)


def test_wake_before_the_wait(watch, tmp_path):
    """A wake-up call that comes a moment too early is not lost."""
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        arrivals.wake()

        arrivals.take(None)


def test_no_thread_is_left(watch, tmp_path):
    """Leaving the block ends every thread that entering it began."""
    before = set(threading.enumerate())
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        assert set(threading.enumerate()) > before

    assert before == set(threading.enumerate())


@linux
def test_real_overflow(watch, notes, tmp_path):
    """When the kernel's queue overflows, everything is looked at again and watched again."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("overflowing this queue takes too long")
    (tmp_path / "many").mkdir()
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        # The reader of the queue needs this lock for each event, so the queue fills up; what it
        # had taken out before it came to the lock is made up for by far.
        with arrivals._native._kernel._lock:
            for number in range(limit):  # three events each
                file = tmp_path / "many" / str(number)
                file.touch()
                file.unlink()
            (tmp_path / "missed").mkdir()
        take_until(arrivals, lambda it: it.rescan)
        (tmp_path / "missed" / "file").touch()

        take_until(arrivals, lambda it: tmp_path / "missed" in it.dirty)

    # A loaded machine may let the queue overflow more than once.
    assert notes
    assert all("max_queued_events" in note for note in notes)


@linux
@pytest.mark.parametrize("allowed", [0, 1])
def test_watch_limit(watch, notes, tmp_path, monkeypatch, allowed):
    """Out of watches, for the root or below it, the root is polled and one line says so."""
    (tmp_path / "below").mkdir()
    real_add, calls = inotify_c.inotify_add_watch, []

    def add(*arguments: object) -> int:
        calls.append(arguments)
        if len(calls) <= allowed:
            return real_add(*arguments)
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_add_watch", add)
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        (tmp_path / "below" / "file").touch()

        take_until(arrivals, lambda it: tmp_path / "below" in it.dirty)

    assert ["sysctl fs.inotify.max_user_watches" in note for note in notes] == [True]


@linux
def test_instance_limit(watch, notes, tmp_path, monkeypatch):
    """Out of inotify instances, the root is polled and one line says so."""

    def init() -> int:
        ctypes.set_errno(errno.EMFILE)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_init", init)
    with watch(tmp_path) as arrivals:
        settle_down(arrivals)
        (tmp_path / "file").touch()

        take_until(arrivals, lambda it: tmp_path in it.dirty)

    assert ["sysctl fs.inotify.max_user_instances" in note for note in notes] == [True]


def test_remote_root_is_polled(watch, notes, tmp_path, monkeypatch):
    """On a file system that events do not reach, changes and growing files are found by polling."""
    monkeypatch.setattr(arrivals_module, "remote_mount", lambda _root: "nfs4")
    root = tmp_path / "root"
    with watch(root) as arrivals:
        settle_down(arrivals)
        root.mkdir()
        take_until(arrivals, lambda it: it.rescan)
        (root / "run").mkdir()
        (root / "run" / "file").touch()
        take_until(arrivals, lambda it: {root, root / "run"} <= it.dirty)
        (root / "run" / "file").write_bytes(b"more")
        take_until(arrivals, lambda it: root / "run" in it.dirty)
        (root / "run" / "file").unlink()
        (root / "run").rmdir()
        root.rmdir()
        root.mkdir()
        (root / "again").mkdir()
        take_until(arrivals, lambda it: root / "again" in it.dirty or it.rescan)

    assert ["'nfs4'" in note for note in notes] == [True]


class Mount:
    """One line of the table of mounts."""

    def __init__(self, mountpoint: Path, fstype: str, opts: str = "rw") -> None:
        self.mountpoint, self.fstype, self.opts = str(mountpoint), fstype, opts


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ({"/": "ext4"}, None),
        ({"/": "overlay"}, None),
        ({"/": "nfs4"}, "nfs4"),
        ({"/": "nfs4", ".": "ext4"}, None),
        ({"/": "ext4", ".": "fuse.sshfs"}, "fuse.sshfs"),
        ({"/": "ext4", ".": "fuseblk"}, None),
        ({"/": "ext4", "here/below": "cifs"}, "cifs"),
        ({"/": "ext4", "beside": "cifs"}, None),
        ({}, None),
    ],
)
def test_remote_mount(monkeypatch, tmp_path, mounts, kind):
    """The mount a root lies on counts, and any below it; the root need not exist."""
    table = [Mount(tmp_path / path, fstype) for path, fstype in mounts.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: table)

    assert kind == remote_mount(tmp_path / "here")
