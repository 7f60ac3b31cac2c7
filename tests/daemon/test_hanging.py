"""What must hold of a training that lives and makes no progress."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from sentinel.daemon.progress import Progress

posix = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")

AFTER_S = 5.0
"""Longer than the small trainer takes to start on a busy machine."""


def _config(bench, **settings):
    path = bench.place / "other.yaml"
    given = {"backoff_s": 0.05, "grace_s": 1.0, "settle_s": 0.1, "hang_after_s": AFTER_S}
    path.write_text(json.dumps({**given, **settings}), encoding="utf-8")
    return ("--config", str(path))


def _hangs(bench) -> list[str]:
    events = bench.log().events
    return [event.message for event in events if "still_s" in (event.detail or {})]


def _until(process, word):
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return
    pytest.fail(f"it ended without '{word}':\n{''.join(said)}")


# -- what counts as progress -------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _silence(progress, clock, seconds: float) -> float | None:
    """Let time pass in steps of two seconds; what is said in it."""
    said = None
    until_s = clock.now_s + seconds
    while clock.now_s < until_s:
        clock.now_s += 2.0
        said = progress.look() or said
    return said


def test_silence_is_said_once_and_again_after_progress(tmp_path, clock):
    """Neither before its time nor twice; what moves begins the count anew."""
    progress = Progress(20.0, (tmp_path,), clock=clock)

    assert _silence(progress, clock, 18) is None
    assert _silence(progress, clock, 4) >= 20.0
    assert _silence(progress, clock, 100) is None
    progress.moved()
    assert _silence(progress, clock, 18) is None
    assert _silence(progress, clock, 4) >= 20.0


@pytest.mark.parametrize(
    "name",
    [
        "trainer_log.jsonl",
        "train.log",
        "metrics.csv",
        "runs/a/events.out.tfevents.1700000000.host.1.0",
        "logs/a/b/events.out.tfevents.1700000000.host.1.0",
    ],
)
def test_a_growing_log_is_progress(tmp_path, clock, name):
    """A line in any log that trainers keep beside their checkpoints."""
    progress = Progress(20.0, (tmp_path,), clock=clock)
    log = tmp_path / name
    log.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(5):
        with log.open("a") as file:
            file.write("one more line\n")
        assert _silence(progress, clock, 18) is None

    assert _silence(progress, clock, 10) >= 20.0


def test_tensorboards_own_writer_is_progress(tmp_path, clock):
    """Events as the real writer flushes them."""
    writer_of = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    progress = Progress(20.0, (tmp_path,), clock=clock)
    with writer_of(str(tmp_path / "runs" / "today")) as writer:
        for step in range(4):
            writer.add_scalar("train/loss", 1.0, step)
            writer.flush()
            assert _silence(progress, clock, 18) is None

    assert _silence(progress, clock, 22) is not None


def test_the_log_of_an_output_directory_beside(tmp_path, clock):
    """OneTrainer keeps backups and logs as neighbours: a checkpoint leads to its log."""
    progress = Progress(20.0, (tmp_path / "elsewhere",), clock=clock)
    progress.beside(tmp_path / "ws" / "backup" / "2026-01-01_00-00-00-backup-10-0-10")
    log = tmp_path / "ws" / "tensorboard" / "events.out.tfevents.1700000000.host.1.0"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"12")

    assert _silence(progress, clock, 18) is None
    log.write_bytes(b"123")
    assert _silence(progress, clock, 18) is None


def test_output_that_goes_to_a_file_is_progress(tmp_path, clock):
    """By path or by descriptor."""
    file = tmp_path / "out.txt"
    with file.open("ab") as stream:
        progress = Progress(20.0, (tmp_path / "ckpt",), outputs=(stream.fileno(),), clock=clock)
        _silence(progress, clock, 18)
        stream.write(b"step 1\n")
        stream.flush()
        assert _silence(progress, clock, 18) is None


def test_a_machine_that_slept_did_not_hang(tmp_path, clock):
    """Nothing is known of the time in which sentinel itself stood still."""
    progress = Progress(20.0, (tmp_path,), clock=clock)
    clock.now_s += 5000.0

    assert progress.look() is None
    assert _silence(progress, clock, 22) is not None


# -- under `sentinel run` ----------------------------------------------------------------------


@posix
def test_a_hang_is_started_again_from_the_last_good_checkpoint(bench):
    """Stopped, resumed as it was, said; the run ends well, and no checkpoint is moved."""
    trainer = bench.trainer("--precision", "fp32", "--hang-at", "30", "--steps", "40")

    ran = bench.run(*bench.arguments(*_config(bench, hang="restart"), trainer=trainer))

    assert ran.code == 0, ran.err
    first, second = bench.journal().attempts(bench.run_id)
    assert (first.outcome, second.outcome) == ("hung", "ended")
    assert second.command == (*trainer, "--resume", str(bench.out / "checkpoint-20"))
    assert bench.steps() == [10, 20, 30, 40]
    assert bench.quarantined() == []
    assert len(_hangs(bench)) == 1
    assert "it is started again" in _hangs(bench)[0]
    (plan,) = [event for event in bench.log().events if event.kind == "plan"]
    assert (plan.rule, plan.detail["target_step"]) == ("hang", 20)
    assert "repair fixed: hang is gone" in ran.err


@posix
@pytest.mark.slow
def test_a_hang_that_comes_back_ends_in_giving_up(bench):
    """Two hangs from the start, and no third; the code is the one the user chose."""
    trainer = bench.trainer("--hang-at", "10", "--always")
    codes = {"gave_up": 93}
    config = _config(bench, hang="restart", hang_after_s=3.0, exit_codes=codes)

    ran = bench.run(*bench.arguments(*config, trainer=trainer))

    assert ran.code == 93, ran.err
    assert [one.outcome for one in bench.journal().attempts(bench.run_id)] == ["hung", "hung"]
    assert bench.living_trainers() == []


@posix
def test_a_hang_is_only_said_by_default(bench):
    """Nothing is stopped: the training may go on after all, and does."""
    go = bench.place / "go"
    trainer = bench.trainer(
        *("--precision", "fp32", "--steps", "20", "--hang-at", "20", "--hang-until", str(go))
    )
    process = bench.start(*bench.arguments(*_config(bench, hang_after_s=2.0), trainer=trainer))
    _until(process, "the trainer hangs")
    go.touch()
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert bench.steps() == [10, 20]
    assert len(bench.journal().attempts(bench.run_id)) == 1


@posix
@pytest.mark.slow
def test_a_log_that_grows_keeps_a_run_alive(bench):
    """Long between checkpoints, but a line a moment: that is no hang."""
    pace = ("--pace-s", str(AFTER_S + 2), "--log", "--steps", "10", "--precision", "fp32")
    config = _config(bench, hang="restart")

    ran = bench.run(*bench.arguments(*config, trainer=bench.trainer(*pace)))

    assert ran.code == 0, ran.err
    assert len(bench.journal().attempts(bench.run_id)) == 1
    assert _hangs(bench) == []


@posix
@pytest.mark.parametrize(("policy", "code"), [("report", 0), ("stop", 76)], ids=["report", "stop"])
def test_the_policy_stands_above_a_hang(bench, policy, code):
    """`report` touches nothing even with `hang: restart`; `stop` does not start again."""
    go = bench.place / "go"
    trainer = bench.trainer(
        *("--precision", "fp32", "--steps", "20", "--hang-at", "20", "--hang-until", str(go))
    )
    config = _config(bench, hang_after_s=2.0, hang="restart", policy=policy)
    process = bench.start(*bench.arguments(*config, trainer=trainer))
    _until(process, "the trainer hangs")
    if policy == "report":
        go.touch()
    process.communicate(timeout=60)

    assert process.returncode == code
    assert len(bench.journal().attempts(bench.run_id)) == 1


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "number"),
    [*(("before", at) for at in range(3, 14)), *(("after", at) for at in range(3, 13))],
)
def test_a_kill_while_a_hang_is_dealt_with(bench, number, when):
    """Killed at any write and started again: the hang is dealt with, and only once.

    The thirteenth write ends the run: after it, the same command is another training.
    """
    trainer = bench.trainer("--precision", "fp32", "--hang-at", "20", "--steps", "30")
    arguments = bench.arguments(*_config(bench, hang="restart"), trainer=trainer)
    bench.run(*arguments, kill_at=number, when=when)

    again = bench.run(*arguments)

    assert again.code == 0, again.err
    assert not (bench.place / "two-trainers-at-once").exists()
    assert bench.living_trainers() == []
    assert bench.steps() == [10, 20, 30]
    assert len(bench.journal().attempts(bench.run_id)) <= 3


# -- beside a trainer --------------------------------------------------------------------------


def test_a_watch_says_that_a_run_fell_silent(bench, saves):
    """Once for each silence of a run that was seen to save; it cannot know whether it ended."""
    config = bench.place / "watch.yaml"
    config.write_text("settle_s: 0.1\nhang_after_s: 2.0\n", encoding="utf-8")
    state = ("--state", str(bench.state))
    process = bench.start("watch", "--config", str(config), *state, str(bench.out))
    saves.folder(bench.out / "checkpoint-10", 10)
    _until(process, "hangs or has ended")
    saves.folder(bench.out / "checkpoint-20", 20)
    _until(process, "hangs or has ended")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert len(_hangs(bench)) == 2


def test_nothing_is_said_unless_it_is_asked_for():
    """Off by default: how long a training may be silent only its user knows."""
    program = "from sentinel.config import Config; print(Config().hang_after_s, Config().hang)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.split() == ["None", "report"]
