"""What must hold of `sentinel watch`: the real command on real files, beside trainers of any kind.

Nothing here sleeps: each test reads what the process prints, with a deadline.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import psutil
import pyarrow.dataset
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from sentinel.cli.main import cli
from sentinel.daemon.guarding import guarding_run
from sentinel.daemon.journal import Journal
from sentinel.errors import ConfigError

DEADLINE_S = 60
SETTINGS = "settle_s: 0.3\nverdict_timeout_s: 20.0\n"
IMPATIENT = f"{SETTINGS}torn_after_s: 0.6\n"

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Watching:
    """A running `sentinel watch` and what it has said so far."""

    def __init__(self, place: Path, *arguments: object, settings: str) -> None:
        self.state = place / "state"
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*command(place, settings), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="surrogateescape",
            cwd=place,
        )
        threading.Thread(target=self._collect, daemon=True).start()

    def line(self, *words: str) -> str:
        """The next line that holds all these words; what comes before it is kept in `said`."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                line = self._lines.get(timeout=deadline - time.monotonic())
            except (queue.Empty, ValueError):
                pytest.fail(f"no line with {words}; it said:\n{''.join(self.said)}")
            if line is None:
                pytest.fail(f"it ended without {words}; it said:\n{''.join(self.said)}")
            self.said.append(line)
            if all(word in line for word in words):
                return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit code when all it said is read."""
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        while (line := self._lines.get(timeout=DEADLINE_S)) is not None:
            self.said.append(line)
        return code

    def told(self, name: str) -> list[str]:
        """All lines about a path so far."""
        return [line for line in self.said if name in line]

    def rows(self) -> list[tuple[str, int, int | None, str, str | None]]:
        """What the journal holds: name, attempt, step, level, parent's name."""
        journal = Journal(self.state / "journal.sqlite")
        found = [judged for run_id in journal.runs() for judged in journal.judged(run_id)]
        journal.close()
        names = {judged.checkpoint_id: judged.path.name for judged in found}
        return [(j.path.name, j.attempt, j.step, j.level, names.get(j.parent or "")) for j in found]

    def _collect(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)


def command(place: Path, settings: str = IMPATIENT) -> list[str]:
    config = place / "sentinel.yaml"
    config.write_text(settings, encoding="utf-8")
    return [
        *(sys.executable, "-m", "sentinel", "watch"),
        *("--config", str(config), "--state", str(place / "state")),
    ]


@contextmanager
def watching(place: Path, *arguments: object, settings: str = IMPATIENT):
    watch = Watching(place, *arguments, settings=settings)
    try:
        yield watch
    finally:
        if watch.process.poll() is None:
            watch.process.kill()
        watch.process.wait(DEADLINE_S)


def once(place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`sentinel watch --once`, run to its end."""
    return subprocess.run(
        [*command(place), "--once", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=place,
        check=False,
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One process that watches a directory below which each test has a run of its own."""
    place = tmp_path_factory.mktemp("shared")
    (place / "runs").mkdir()
    with watching(place, place / "runs") as watch:
        yield watch
        assert watch.process.poll() is None, "it died of one of the checkpoints"


@pytest.fixture
def out(shared, request):
    """A run's directory below the shared one."""
    place = shared.state.parent / "runs" / request.node.name[:60].strip("[]")
    place.mkdir()
    return place


@pytest.fixture
def barrier(shared, saves):
    """Wait until everything that was written before has been looked at."""
    numbers = iter(range(1000))

    def wait() -> None:
        name = f"zz-barrier-{next(numbers)}-{time.monotonic_ns()}"
        saves.folder(shared.state.parent / "runs" / name / "checkpoint-1", 1)
        shared.line(name)

    return wait


# -- one line a checkpoint ----------------------------------------------------------------------


def test_a_line_a_checkpoint_as_it_arrives(shared, out, saves):
    """Each checkpoint of an atomic trainer gets one line with verdict, step and path."""
    for step, level in [(10, "healthy"), (20, "faulty"), (30, "healthy")]:
        saves.folder(out / f"checkpoint-{step}", step, nan=level == "faulty")
        line = shared.line(out.name)
        assert level in line
        assert f"step {step}" in line
        assert f"checkpoint-{step}" in line

    assert len(shared.told(out.name)) == 3
    assert "NaN" in shared.told("checkpoint-20")[-1]


def test_files_renamed_into_place(shared, out, saves):
    """A single file that appears by a rename is judged under its final name only."""
    saves.file(out / "cat-step00000010.safetensors", 10)

    assert "healthy" in shared.line(out.name, "cat-step00000010.safetensors")
    assert [line for line in shared.told(out.name) if ".tmp" in line] == []


def test_a_slow_writer_is_waited_for(tmp_path, saves):
    """Written in place bit by bit, there is no verdict before the last byte and the close."""
    content = saves.single(10)
    out = tmp_path / "out"
    out.mkdir()
    path = out / "slow-step00000010.safetensors"
    # Patience of its own: on a slow machine the pauses below are longer than that of the others.
    with watching(tmp_path, out, settings=f"{SETTINGS}torn_after_s: 600.0\n") as watch:
        with path.open("wb") as file:
            for number, start in enumerate(range(0, len(content) - 1, len(content) // 3)):
                file.write(content[start : start + len(content) // 3])
                file.flush()
                saves.folder(out / f"barrier-{number}" / "checkpoint-1", 1)
                watch.line(f"barrier-{number}")
                assert watch.told(path.name) == []
            file.write(content[file.tell() :])

        assert "healthy" in watch.line(path.name)


def test_a_directory_written_file_by_file(shared, out, saves):
    """Without its completion mark a directory is pending; the mark brings the verdict."""
    whole = saves.folder(out / "whole", 10)
    shared.line(out.name)
    place = out / "checkpoint-10"
    place.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (place / name).write_bytes((whole / name).read_bytes())
    state = json.dumps({"global_step": 10, "log_history": []})
    (place / "trainer_state.json").write_text(state)

    assert "healthy" in shared.line(f"{out.name}/checkpoint-10")
    assert len(shared.told(f"{out.name}/checkpoint-10")) == 1


def test_what_stays_torn_is_unreadable(shared, out, saves):
    """A file that nobody goes on writing gets its verdict after `torn_after_s`."""
    (out / "torn-step00000010.safetensors").write_bytes(saves.single(10)[:-100])

    line = shared.line("torn-step00000010.safetensors")
    assert "unreadable" in line
    assert "cut short" in line


def test_a_torn_file_that_is_finished_after_all(shared, out, saves):
    """The verdict on a torn file is no last word: whole, it is judged again."""
    path = out / "late-step00000010.safetensors"
    path.write_bytes(saves.single(10)[:-100])
    assert "unreadable" in shared.line(path.name)
    saves.file(path, 10)

    assert "healthy" in shared.line(path.name)


def test_a_torn_checkpoint_is_no_restart(shared, out, saves):
    """A step that waits because it is torn keeps its place before those that came after it."""
    (out / "cat-step00000010.safetensors").write_bytes(saves.single(10)[:-100])
    saves.file(out / "cat-step00000020.safetensors", 20)
    shared.line(out.name, "step 20")

    mine = [row for row in shared.rows() if (out / row[0]).exists()]
    assert [(attempt, level) for _, attempt, _, level, _ in mine[-2:]] == [
        (1, "unreadable"),
        (1, "healthy"),
    ]


def test_rewritten_under_the_same_name(shared, out, saves):
    """Other bytes under a known name are another checkpoint."""
    path = saves.file(out / "last.safetensors", 10)
    assert "healthy" in shared.line(path.name)
    saves.file(path, 20, nan=True)

    assert "faulty" in shared.line(path.name)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 8, b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", b"{" * 5000],
    ids=["empty", "no-header", "noise", "endless-header", "braces"],
)
def test_hostile_files(shared, out, saves, content):
    """Whatever a file holds, it gets one line that is not `healthy`, and the watch goes on."""
    (out / "evil-step00000010.safetensors").write_bytes(content)
    assert "unreadable" in shared.line(out.name, "evil-step00000010.safetensors")

    saves.folder(out / "checkpoint-20", 20)
    assert "healthy" in shared.line(out.name, "checkpoint-20")


def test_a_hostile_header(shared, out):
    """Lengths that lie and names that climb are said, not followed."""
    header = json.dumps(
        {"../../x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}
    ).encode()
    path = out / "evil-step00000010.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x00" * 4)

    assert "unreadable" in shared.line(path.name)


@pytest.mark.skipif(os.name != "posix", reason="Windows names are text")
def test_names_that_are_no_text(shared, out, saves):
    """A name that is no UTF-8, or that looks like markup, is judged and printed like any other."""
    for name in (b"caf\xe9-step00000010.safetensors", b"[red]\x1b[31m-step00000010.safetensors"):
        saves.file(out / os.fsdecode(name), 10)
        line = shared.line(out.name, "step 10")
        assert "healthy" in line
        assert "\x1b" not in line


@pytest.mark.skipif(os.name != "posix", reason="POSIX names")
def test_links(shared, out, saves, barrier):
    """A loop, a link to nothing and a link to a known checkpoint neither hang nor are judged."""
    (out / "loop").symlink_to(out)
    (out / "a.safetensors").symlink_to("b.safetensors")
    (out / "b.safetensors").symlink_to("a.safetensors")
    saves.folder(out / "checkpoint-10", 10)
    shared.line(out.name, "checkpoint-10")
    (out / "latest").symlink_to("checkpoint-10")
    barrier()
    assert not any("latest" in line or "loop" in line for line in shared.told(out.name))


@pytest.mark.skipif(os.name != "posix", reason="a pipe on which reading would wait")
def test_a_pipe_is_not_waited_for(shared, out):
    """A named pipe where a file should be is unreadable, and does not stop the watch."""
    os.mkfifo(out / "pipe-step00000010.safetensors")

    assert "unreadable" in shared.line("pipe-step00000010.safetensors")


def test_without_permission(tmp_path, saves):
    """What may not be read is unreadable, each by itself, and judged again once it may be."""
    out = tmp_path / "out"
    places = [saves.folder(out / f"checkpoint-{step}", step) for step in (10, 20)]
    for place in places:
        place.chmod(0)
    if os.access(places[0], os.R_OK):
        pytest.skip("this user may read everything")
    try:
        refused = once(tmp_path, out)
    finally:
        for place in places:
            place.chmod(0o755)
    allowed = once(tmp_path, out)

    assert [line.split()[1] for line in refused.stdout.splitlines()] == ["unreadable"] * 2
    assert "Permission denied" in refused.stdout
    assert [line.split()[1] for line in allowed.stdout.splitlines()] == ["healthy"] * 2
    assert (refused.returncode, allowed.returncode) == (2, 0)


def test_gone_while_pending(shared, out, saves, barrier):
    """A checkpoint that is renamed or deleted before its verdict gets none under its old name."""
    for name in ("renamed", "deleted"):
        (out / f"{name}-step00000010.safetensors").write_bytes(saves.single(10)[:-100])
    barrier()
    (out / "deleted-step00000010.safetensors").unlink()
    (out / "renamed-step00000010.safetensors").rename(out / "kept-step00000010.safetensors")
    shared.line("kept-step00000010.safetensors", "unreadable")

    assert shared.told("deleted-step00000010") == []
    assert shared.told("renamed-step00000010") == []


def test_renamed_after_its_verdict(shared, out, saves, barrier):
    """The same files under another name of their run are the same checkpoint: one verdict."""
    path = saves.folder(out / "checkpoint-10", 10)
    shared.line(out.name)
    path.rename(out / "checkpoint-00010")
    barrier()

    assert len(shared.told(out.name)) == 1


@linux
def test_shrinking_while_it_is_read(shared, out):
    """A file truncated in the middle of its reading is settled again, and then called torn."""
    path = out / "huge-step00000010.safetensors"
    size = 12 << 30
    header = json.dumps(
        {"a.lora_down.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    ).encode()
    being_written = out / "huge.tmp"
    with being_written.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)  # sparse: it takes no room
    being_written.rename(path)
    _wait_until_read(shared.process.pid, path)
    os.truncate(path, 1 << 20)

    line = shared.line(path.name)
    assert "unreadable" in line
    assert "the write was cut short" in line
    assert len(shared.told(path.name)) == 1


def _wait_until_read(pid: int, path: Path) -> None:
    """Return once some process of the watch is in the middle of a file.

    It reads without moving the file's position, so what tells is how much it has read in all.
    """
    deadline = time.monotonic() + DEADLINE_S
    read_before: dict[int, int] = {}
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children(recursive=True):
            try:
                opened = Path(f"/proc/{child.pid}/fd").iterdir()
                here = any(os.path.realpath(one) == str(path) for one in opened)
                read = int(Path(f"/proc/{child.pid}/io").read_text().split()[1])
            except OSError:
                continue
            if here and read - read_before.setdefault(child.pid, read) > 1 << 24:
                return
    pytest.fail(f"nobody reads {path}")


# -- runs and attempts --------------------------------------------------------------------------


def test_a_falling_step_is_a_new_attempt(tmp_path, saves):
    """Started again from the beginning: another attempt without history, in the same run."""
    out = tmp_path / "out"
    for step in (10, 20):
        saves.folder(out / f"checkpoint-{step}", step)
    with watching(tmp_path, out) as watch:
        watch.line("step 20")
        for step in (10, 20):
            (out / f"checkpoint-{step}").rename(tmp_path / f"old-{step}")
            saves.folder(out / f"checkpoint-{step}", step)
            watch.line(f"step {step}")
        assert watch.stop() == 0

    assert [row[:3] for row in watch.rows()] == [
        ("checkpoint-10", 1, 10),
        ("checkpoint-20", 1, 20),
        ("checkpoint-10", 2, 10),
        ("checkpoint-20", 2, 20),
    ]
    assert {row[4] for row in watch.rows()} == {None}


def test_a_named_parent(tmp_path, saves):
    """A restart whose checkpoint names what it began from has that as its parent."""
    out = tmp_path / "out"
    paths = [saves.folder(out / f"checkpoint-{step}", step) for step in (10, 20, 30)]
    assert once(tmp_path, out).returncode == 0
    for path in paths[1:]:
        path.rename(tmp_path / path.name)
    saves.folder(out / "checkpoint-20", 20, resumed_from=paths[0])
    with watching(tmp_path, out) as watch:
        watch.line("step 20")

    assert watch.rows()[-1] == ("checkpoint-20", 2, 20, "healthy", "checkpoint-10")


def test_a_pin_as_parent(tmp_path, saves):
    """A restart by hand from the pin of a checkpoint has that checkpoint as its parent."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10)
    assert once(tmp_path, out, "--pin").returncode == 0
    (pin,) = (tmp_path / "state" / "pins").glob("*/*/checkpoint-10")
    (out / "checkpoint-10").rename(tmp_path / "rotated")
    saves.folder(out / "checkpoint-10", 10, resumed_from=pin)
    with watching(tmp_path, out) as watch:
        watch.line("step 10")

    (first, second) = watch.rows()
    assert second[:4] == ("checkpoint-10", 2, 10, "healthy")
    assert second[4] == first[0]


def test_a_last_save_is_no_restart(tmp_path, saves):
    """The last step saved once more under another name stays in its attempt."""
    out = tmp_path / "out"
    saves.file(out / "cat-step00000010.safetensors", 10)
    saves.file(out / "cat.safetensors", 10)

    assert once(tmp_path, out).returncode == 0
    assert {row[1] for row in Watching.rows(_State(tmp_path / "state"))} == {1}


class _State:
    def __init__(self, state: Path) -> None:
        self.state = state


def test_runs_are_told_apart(tmp_path, saves):
    """Each directory, and each name in one, is a run of its own, and keeps it after a restart."""
    for name in ("a", "b"):
        saves.folder(tmp_path / "runs" / name / "checkpoint-10", 10)
    for name in ("cat", "dog"):
        saves.file(tmp_path / "runs" / "c" / f"{name}-step00000010.safetensors", 10)
    once(tmp_path, tmp_path / "runs")
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    before = journal.runs()
    saves.folder(tmp_path / "runs" / "a" / "checkpoint-20", 20)
    once(tmp_path, tmp_path / "runs")

    assert sorted(len(journal.judged(run_id)) for run_id in before) == [1, 1, 1, 2]
    assert journal.runs() == before
    journal.close()


# -- start and end ------------------------------------------------------------------------------


def test_judged_once_across_restarts(tmp_path, saves):
    """What has its verdict is not judged again; what came while it was down is, in order."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10)
    with watching(tmp_path, out) as watch:
        watch.line("step 10")
        assert watch.stop(signal.SIGINT) == 0
    for step in (40, 30, 20):
        saves.folder(out / f"checkpoint-{step}", step)
    with watching(tmp_path, out) as watch:
        watch.line("step 40")
        assert watch.stop() == 0

    assert [line.split()[3] for line in watch.said] == ["20", "30", "40"]
    assert once(tmp_path, out).stdout == ""


def test_a_directory_that_comes_later(tmp_path, saves):
    """A directory that does not exist yet is waited for, also deep below one that does not."""
    out = tmp_path / "not" / "yet"
    with watching(tmp_path, out, tmp_path / "there") as watch:
        saves.folder(tmp_path / "there" / "checkpoint-1", 1)
        watch.line("there/checkpoint-1")
        saves.folder(out / "checkpoint-10", 10)
        watch.line("step 10")
        assert watch.stop() == 0


def test_a_directory_that_is_replaced(tmp_path, saves):
    """The watched directory may be removed and made again."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10)
    with watching(tmp_path, out) as watch:
        watch.line("step 10")
        out.rename(tmp_path / "old")
        saves.folder(out / "checkpoint-20", 20)
        watch.line("step 20")
        assert watch.stop() == 0


def test_nothing_of_the_users_is_touched(tmp_path, saves):
    """Names, inodes, modes, sizes, mtimes and ctimes below the directory are as before."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10, nan=True)
    saves.file(out / "cat-step00000010.safetensors", 10)
    (out / "torn.safetensors").write_bytes(b"torn")
    before = _content(out)
    with watching(tmp_path, out) as watch:
        watch.line("torn.safetensors")
        assert watch.stop() == 0

    assert len(watch.said) == 3
    assert _content(out) == before


def _content(place: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for path in (place, *place.rglob("*")):
        status = path.stat()
        found[str(path)] = (
            *(status.st_ino, status.st_mode, status.st_nlink, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns if os.name == "posix" else 0),
        )
    return found


def test_the_log_is_readable_while_it_runs(tmp_path, saves):
    """Any Parquet reader opens the health log at any moment and sees whole checkpoints."""
    out = tmp_path / "out"
    with watching(tmp_path, out) as watch:
        for step in (10, 20, 30):
            saves.folder(out / f"checkpoint-{step}", step, nan=step == 30)
            watch.line(f"step {step}")
            assert _steps(watch.state / "health") == [list(range(10, step + 1, 10))] * 3
        assert watch.process.poll() is None
    tensors = pyarrow.dataset.dataset(watch.state / "health" / "tensors").to_table()
    assert len(set(tensors["checkpoint_id"].to_pylist())) == 3


def _steps(log: Path) -> list[list[int]]:
    """The steps in the log as pyarrow, DuckDB and Polars read them."""
    checkpoints = log / "checkpoints"
    return [
        sorted(pyarrow.dataset.dataset(checkpoints).to_table()["step"].to_pylist()),
        sorted(
            step
            for (step,) in duckdb.sql(
                f"SELECT step FROM '{checkpoints.as_posix()}/*/*.parquet'"
            ).fetchall()
        ),
        sorted(pl.read_parquet(checkpoints, hive_partitioning=True)["step"].to_list()),
    ]


@linux
def test_reading_gives_way_as_asked(tmp_path, saves):
    """The process that reads is there before the first checkpoint, and gives way by what the
    options say, else the settings; what comes is judged all the same.
    """
    options = ("--nice", "7", "--max-read-rate", "1MB")
    with watching(
        tmp_path, *options, tmp_path / "out", settings=f"{IMPATIENT}ionice: idle\n"
    ) as it:
        started = time.monotonic()
        while not (reading := psutil.Process(it.process.pid).children()):
            assert time.monotonic() - started < DEADLINE_S
        saves.folder(tmp_path / "out" / "checkpoint-10", 10)
        it.line("step 10")

        assert psutil.Process(it.process.pid).children() == reading
        assert reading[0].nice() == os.nice(0) + 7
        assert reading[0].ionice().ioclass == psutil.IOPRIO_CLASS_IDLE


def test_once(tmp_path, saves):
    """`--once` tells the worst by its code: 0 good, 2 unreadable, 1 faulty, which wins."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10)
    codes = [once(tmp_path, out).returncode]
    (out / "torn.safetensors").write_bytes(b"torn")
    codes.append(once(tmp_path, out).returncode)
    saves.folder(out / "checkpoint-20", 20, nan=True)
    (out / "more.safetensors").write_bytes(b"torn")
    codes.append(once(tmp_path, out).returncode)
    codes.append(once(tmp_path, out).returncode)

    assert codes == [0, 2, 1, 0]


def test_once_on_nothing(tmp_path):
    """With `--once` a directory that is not there is a wrong call, in one line."""
    done = once(tmp_path, tmp_path / "nowhere")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need a right on Windows")
@pytest.mark.parametrize(
    ("watched", "option"),
    [
        ("out", "--state out/state"),
        ("link", "--state out/state"),
        ("out", "--state link/deep/state"),
        ("other/../out", "--state out"),
        ("out", "--log out/log"),
    ],
)
def test_state_below_the_directory_is_refused(tmp_path, monkeypatch, watched, option):
    """Nothing of ours lies where a trainer looks, however the two are spelled."""
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)

    asked = CliRunner().invoke(cli, ["watch", "--once", *option.split(), watched])

    assert isinstance(asked.exception, ConfigError)
    assert "lies below the watched directory" in str(asked.exception)
    assert list((tmp_path / "out").iterdir()) == []


def test_two_watches_of_one_directory(tmp_path, saves):
    """The second is refused in one line, the first goes on; given twice it is one directory."""
    out = tmp_path / "out"
    with watching(tmp_path, out, tmp_path / "out" / ".." / "out") as watch:
        saves.folder(out / "checkpoint-10", 10)
        watch.line("step 10")
        second = once(tmp_path, out)
        saves.folder(out / "checkpoint-20", 20)
        watch.line("step 20")

    assert second.returncode == 2
    assert "already guarded" in second.stderr


def test_a_supervised_run_is_left_alone(tmp_path, saves):
    """A watch around the directory of a `sentinel run` judges what is beside it, and says so."""
    runs = tmp_path / "runs"
    for name in ("mine", "supervised"):
        saves.folder(runs / name / "checkpoint-10", 10)
    journal = Journal(tmp_path / "state" / "journal.sqlite")
    run_id = journal.bind_run((runs / "supervised",))
    with guarding_run(tmp_path / "state", run_id):
        during = once(tmp_path, runs)
    assert journal.judged(run_id) == ()
    after = once(tmp_path, runs)

    assert "mine/checkpoint-10" in during.stdout
    assert "supervised" not in during.stdout
    assert "is left to the sentinel that runs its trainer" in during.stderr
    assert "supervised/checkpoint-10" in after.stdout
    journal.close()


@linux
def test_a_full_disk_harms_nobody(tmp_path, saves):
    """A log that cannot be written is said once; with room again the verdicts are written."""
    out = tmp_path / "out"
    saves.folder(out / "checkpoint-10", 10)
    with watching(tmp_path, out) as watch:
        watch.line("step 10")
        process = psutil.Process(watch.process.pid)
        room = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (100, room[1]))
        saves.folder(out / "checkpoint-20", 20)
        line = watch.line("health log", "cannot be written")
        process.rlimit(psutil.RLIMIT_FSIZE, room)
        watch.line("step 20", "healthy")
        assert watch.stop() == 0

    assert "check the disk's space" in line
    assert len(watch.told("cannot be written")) == 1


@linux
@pytest.mark.parametrize(
    ("room", "said"), [(1.5, "the next one does not"), (2.5, "the one after the next"), (9, None)]
)
def test_the_next_save_that_will_not_fit(tmp_path, room, said):
    """On a file system that is nearly full the next save is known not to fit, one save ahead."""
    values = np.full((64, 1024), 0.01, np.float32)
    whole = {"lora_unet_q.lora_up.weight": values, "lora_unet_q.lora_down.weight": values.T.copy()}
    save_file(whole, tmp_path / "lora-step00000010.safetensors")
    (tmp_path / "out").mkdir()
    size = int((tmp_path / "lora-step00000010.safetensors").stat().st_size * room)
    full = f"mount -t tmpfs -o size={size} none out && cp lora*.safetensors out && exec "
    words = shlex.join([*command(tmp_path), "--once", str(tmp_path / "out")])
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", full + words],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=tmp_path,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("a file system of our own cannot be mounted here")
    assert "step 10" in done.stdout, done.stderr
    assert ("not fit" in done.stdout) == (said is not None), done.stdout
    assert said is None or said in done.stdout
