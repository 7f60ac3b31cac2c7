"""What must hold of `sentinel run` when things happen where nobody waits for them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")


PROGRAMS = Path(__file__).parent / "programs"


def _config(bench, **settings):
    """A configuration of its own; the last `--config` counts."""
    path = bench.place / "other.yaml"
    path.write_text(json.dumps({"backoff_s": 0.05, "grace_s": 1.0, **settings}), encoding="utf-8")
    return ("--config", str(path))


def _until(process, word):
    """Read what a process says up to a word."""
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return "".join(said)
    return pytest.fail(f"it ended without '{word}':\n{''.join(said)}")


# -- signals -----------------------------------------------------------------------------------


def test_a_signal_before_the_first_start(bench, saves):
    """While sentinel still judges what lies there: it ends, and nothing was started."""
    saves.folder(bench.out / "checkpoint-10", 10)
    (bench.out / "checkpoint-20").mkdir()  # never finished, so there is a verdict to wait for
    process = bench.start(
        *bench.arguments(*_config(bench, torn_after_s=60.0), trainer=bench.trainer())
    )
    _until(process, "checkpoint-10")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert not (bench.place / "pids").exists()
    assert bench.journal().attempts(bench.run_id) == ()


def test_a_signal_during_the_back_off(bench):
    """Between two attempts: it ends, and the same command again carries the repair out."""
    trainer = bench.trainer("--fault", "zero", "--steps", "20", "--linger-s", "60")
    process = bench.start(*bench.arguments(*_config(bench, backoff_s=60.0), trainer=trainer))
    _until(process, "restart from step 0")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    attempts = bench.journal().attempts(bench.run_id)

    again = bench.run(*bench.arguments(trainer=trainer))

    assert process.returncode == 128 + signal.SIGINT
    assert [attempt.outcome for attempt in attempts] == ["faulty"]
    assert again.code == 0, again.err
    assert [a.attempt for a in bench.journal().attempts(bench.run_id)] == [1, 2]
    assert len([event for event in bench.log().events if event.kind == "plan"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_signal_in_the_middle_of_a_reading(bench):
    """However large a checkpoint is, a signal does not wait until it is read."""
    bench.out.mkdir()
    size = 40 << 30
    header = json.dumps(
        {"a.lora_down.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    ).encode()
    huge = bench.out / "huge-step00000010.safetensors"
    with huge.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)  # sparse: it takes no room
    process = bench.start(*bench.arguments(trainer=bench.trainer()))
    while process.poll() is None and not _is_read(process.pid, huge):
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 128 + signal.SIGTERM
    assert bench.journal().judged(bench.run_id) == ()


def _is_read(pid, path):
    for child in psutil.Process(pid).children(recursive=True):
        try:
            opened = [file.path for file in child.open_files()]
        except (psutil.Error, OSError):
            continue
        if str(path) in opened:
            return True
    return False


# -- starts ------------------------------------------------------------------------------------


def test_a_command_that_was_mended(bench):
    """A command that could not start is not what the next call starts."""
    wrong = bench.run(*bench.arguments("--watch", str(bench.out), trainer=["/no/such/program"]))
    right = bench.run(*bench.arguments(trainer=bench.trainer("--steps", "10")))

    assert wrong.code == 2
    assert right.code == 0, right.err
    assert bench.steps() == [10]


def test_a_finished_run_is_started_again(bench):
    """The same command after a repaired run: what lay there is known, a new attempt begins."""
    trainer = bench.trainer("--fault", "zero", "--steps", "20", "--linger-s", "60")
    first = bench.run(*bench.arguments(trainer=trainer))
    healthy = bench.trainer("--precision", "fp32", "--steps", "20", "--pace-s", "0")
    second = bench.run(*bench.arguments(trainer=healthy))

    assert (first.code, second.code) == (0, 0), second.err
    attempts = bench.journal().attempts(bench.run_id)
    assert [(a.attempt, a.plan is None) for a in attempts] == [(1, True), (2, False), (3, True)]
    assert [row.step for row in bench.log().checkpoints if row.attempt == 3] == [10, 20]


def test_what_lay_there_before_the_first_start(bench):
    """Checkpoints from before sentinel belong to no attempt, and the one named is the parent."""
    bench.run_plain(bench.trainer("--precision", "fp32", "--steps", "20", "--pace-s", "0"))
    resume = ["--resume", "out/../out/checkpoint-20", "--precision", "fp32", "--steps", "30"]
    ran = bench.run(*bench.arguments(trainer=bench.trainer(*resume)))

    assert ran.code == 0, ran.err
    rows = bench.log().checkpoints
    assert [(row.attempt, row.step) for row in rows] == [(0, 10), (0, 20), (1, 30)]
    assert rows[2].parent == rows[1].checkpoint_id


def test_a_target_that_was_rotated_away(bench):
    """Planned from step 20, which is gone and not pinned when it is to start: it begins at 10."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "30")
    unpinned = _config(bench, pin=False)
    stopped = bench.run(*bench.arguments(*unpinned, "--policy", "stop", trainer=trainer))
    journal = bench.journal()
    target = next(j for j in journal.judged(bench.run_id) if j.step == 20)
    plan = {
        "rules": ["nan-values"],
        "target": target.checkpoint_id,
        "target_path": str(target.path),
        "target_step": 20,
        "precision": "fp32",
        "optimizer": "drop",
        "reason": "",
        "steps_lost": 10,
    }
    command = [*trainer, "--precision", "fp32", "--resume", str(target.path)]
    journal.plan_attempt(bench.run_id, parent=target.checkpoint_id, command=command, plan=plan)
    shutil.rmtree(target.path)

    ran = bench.run(*bench.arguments(*unpinned, trainer=trainer))

    assert (stopped.code, ran.code) == (76, 0), ran.err
    second, third = journal.attempts(bench.run_id)[1:]
    assert (second.outcome, second.pid) == ("not started", None)
    assert third.command[-4:] == (
        *("--precision", "fp32"),
        *("--resume", str(bench.out / "checkpoint-10")),
    )


def test_a_fault_that_is_known_is_acted_on_at_once(bench):
    """Killed between the verdict and the act: the next sentinel does not wait for another one."""
    trainer = bench.trainer("--fault", "zero", "--steps", "20", "--pace-s", "600")
    arguments = bench.arguments("--policy", "stop", trainer=trainer)
    # The run bound, its command kept, the attempt planned and started, the verdict recorded.
    verdict = 5
    program = [sys.executable, str(PROGRAMS / "killed_at.py"), str(verdict), "after"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.run([*program, *arguments], cwd=bench.place, check=False, **quiet)
    living = bench.living_trainers()

    again = bench.run(*arguments)

    assert killed.returncode == -signal.SIGKILL
    assert [j.level for j in bench.journal().judged(bench.run_id)] == ["faulty"]
    assert len(living) == 1
    assert again.code == 76, again.err
    assert bench.living_trainers() == []


# -- quarantine and policy ---------------------------------------------------------------------


def test_a_quarantine_that_is_impossible(bench):
    """Said, not done by other means, and the faulty checkpoint is not resumed from."""
    (bench.place / ".sentinel-quarantine").write_text("a file in the way")
    trainer = bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "40")

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 0, ran.err
    assert "cannot be moved" in ran.err
    second = bench.journal().attempts(bench.run_id)[1]
    assert str(bench.out / "checkpoint-20") in second.command


def test_report_finishes_no_repair(bench):
    """A repair that was begun under another policy is left alone under `--policy report`."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "20", "--steps", "20")
    bench.run(*bench.arguments("--policy", "report", trainer=trainer))
    journal = bench.journal()
    faulty = next(j for j in journal.judged(bench.run_id) if j.level == "faulty")
    place = bench.place / ".sentinel-quarantine" / faulty.checkpoint_id / faulty.path.name
    journal.intend(bench.run_id, "repair", "1", {})
    journal.intend(
        bench.run_id,
        "quarantine",
        faulty.checkpoint_id,
        {
            "source": str(faulty.path),
            "place": str(place),
            "attempt": 1,
            "checkpoint_id": faulty.checkpoint_id,
        },
    )
    resume = ["--resume", str(bench.out / "checkpoint-20"), "--steps", "20"]

    reported = bench.run(*bench.arguments("--policy", "report", trainer=bench.trainer(*resume)))

    assert reported.code == 0, reported.err
    assert faulty.path.exists()
    assert bench.quarantined() == []


def test_stop_does_not_begin_elsewhere(bench):
    """Under `--policy stop` a faulty choice of the user's is not started, and not replaced."""
    bench.run_plain(bench.trainer("--fault", "nan", "--fault-from", "20", "--steps", "20"))
    resume = ["--resume", str(bench.out / "checkpoint-20")]
    started = (bench.place / "pids").read_text()

    ran = bench.run(*bench.arguments("--policy", "stop", trainer=bench.trainer(*resume)))

    assert ran.code == 76, ran.err
    assert (bench.place / "pids").read_text() == started


# -- ends --------------------------------------------------------------------------------------


def test_a_trainer_that_was_killed(bench):
    """Its code is the one a shell would give: 128 and the signal."""
    trainer = ["sh", "-c", "kill -9 $$"]

    assert bench.run(*bench.arguments("--watch", str(bench.out), trainer=trainer)).code == 137


def test_a_last_checkpoint_that_cannot_be_read(bench):
    """What could not be checked is no good end, whatever the trainer's code."""
    trainer = ["sh", "-c", f"mkdir {bench.out}; echo torn > {bench.out}/cat-step10.safetensors"]
    arguments = bench.arguments(
        *_config(bench, torn_after_s=0.5), "--watch", str(bench.out), trainer=trainer
    )

    assert bench.run(*arguments).code == 70


@pytest.mark.skipif(sys.platform != "linux", reason="sets another process's limits")
def test_a_full_disk_does_not_harm_the_trainer(bench):
    """With its state on a full disk sentinel says so; the training goes on to its own end."""
    trainer = bench.trainer("--precision", "fp32", "--steps", "50", "--pace-s", "0.2")
    process = bench.start(*bench.arguments(trainer=trainer))
    said = _until(process, "step 10")
    guard = psutil.Process(process.pid)
    guard.rlimit(psutil.RLIMIT_FSIZE, (100, guard.rlimit(psutil.RLIMIT_FSIZE)[1]))
    said += process.communicate(timeout=60)[0]

    assert process.returncode == 2, said
    assert "check the disk's space" in said
    assert bench.steps() == [10, 20, 30, 40, 50]
    assert bench.living_trainers() == []


def test_a_journal_that_breaks_does_not_end_the_trainer(bench):
    """What cannot be written down is not done: the trainer goes on unguarded, and that is said."""
    trainer = bench.trainer(
        "--fault", "zero", "--steps", "30", "--pace-s", "0.4", "--linger-s", "6"
    )
    process = bench.start(*bench.arguments(trainer=trainer))
    said = _until(process, "attempt 1 started")
    database = sqlite3.connect(bench.state / "journal.sqlite")
    database.execute("DROP TABLE action")
    database.close()
    said += process.communicate(timeout=60)[0]

    assert process.returncode == 2, said
    assert "the trainer goes on, unguarded" in said
    assert bench.steps() == [10, 20, 30]
    assert bench.quarantined() == []
