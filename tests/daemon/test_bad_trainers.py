"""What must hold around trainers that behave badly: a clear event, and a loop that ends."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")


def _outcomes(bench) -> list[str]:
    return [event.message for event in bench.log().events if event.kind == "outcome"]


def _ends(bench) -> list[str | None]:
    return [attempt.outcome for attempt in bench.journal().attempts(bench.run_id)]


def test_a_trainer_that_dies_at_once(bench):
    """Not started again: sentinel repairs what it found faulty, and here it found nothing."""
    ran = bench.run(*bench.arguments("--watch", str(bench.out), trainer=["sh", "-c", "exit 7"]))

    assert ran.code == 7
    assert _ends(bench) == ["ended"]
    assert _outcomes(bench) == ["the trainer ended with code 7; it wrote no checkpoint"]


def test_a_trainer_that_dies_at_each_resume(bench):
    """After a repair that does not even start: its code, one event, no further attempt."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "30", "--die-on-resume")

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 9, ran.err
    assert _ends(bench) == ["faulty", "ended"]
    assert "the trainer ended with code 9; it wrote no checkpoint" in _outcomes(bench)
    assert bench.steps() == [10, 20]


def test_a_checkpoint_that_looks_healthy_and_is_poison(bench):
    """NVIDIA/Megatron-LM#5281 looped 44 times from one: two attempts, then one further back."""
    trainer = bench.trainer(
        *("--fault", "nan", "--fault-from", "40", "--steps", "50", "--poisoned", "30")
    )

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 0, ran.err
    attempts = bench.journal().attempts(bench.run_id)
    steps = {row.checkpoint_id: row.step for row in bench.log().checkpoints}
    assert [steps.get(attempt.parent) for attempt in attempts] == [None, 30, 30, 20]
    assert _ends(bench) == ["faulty", "faulty", "faulty", "ended"]
    assert bench.steps() == [10, 20, 30, 40, 50]
    assert {row.verdict for row in bench.log().checkpoints if row.attempt == 4} == {"healthy"}


def test_a_trainer_that_saves_while_it_is_stopped(bench):
    """What it writes at SIGTERM, whole or half, is judged and never begun from."""
    trainer = bench.trainer(
        *("--fault", "nan", "--fault-from", "30", "--steps", "40"),
        *("--linger-s", "60", "--save-on-term"),
    )
    config = bench.place / "other.yaml"
    config.write_text("backoff_s: 0.05\ngrace_s: 20.0\ntorn_after_s: 1.0\n", encoding="utf-8")

    ran = bench.run(*bench.arguments("--config", str(config), trainer=trainer))

    assert ran.code == 0, ran.err
    rows = [row for row in bench.log().checkpoints if row.attempt == 1]
    levels = {row.path.rpartition("-")[2]: row.verdict for row in rows}
    assert (levels["30"], levels["900"]) == ("faulty", "faulty")
    assert levels["910"] in {"faulty", "unreadable"}
    assert {"checkpoint-30", "checkpoint-900"} <= set(bench.quarantined())
    second = bench.journal().attempts(bench.run_id)[1]
    assert second.command[-1] == str(bench.out / "checkpoint-20")


@pytest.mark.slow
def test_a_trainer_that_goes_on_saving_until_it_is_killed(bench):
    """Deaf to SIGTERM and writing all the while: all of it is quarantined before the restart."""
    trainer = bench.trainer("--fault", "zero", "--stubborn", "--steps", "4000", "--pace-s", "0.4")

    process = subprocess.run(
        [sys.executable, "-m", "sentinel", *bench.arguments("--policy", "stop", trainer=trainer)],
        cwd=bench.place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert process.returncode == 76, process.stderr
    assert "SIGKILL" in process.stderr
    assert bench.living_trainers() == []
    assert bench.steps() == []
    assert len(bench.quarantined()) >= 2


def test_a_trainer_that_forks_away(bench):
    """A launcher whose trainer left its session: both are gone before anything else happens."""
    inner = shlex.join(bench.trainer("--fault", "zero", "--linger-s", "60"))
    trainer = ["sh", "-c", f"setsid -f {inner}; exec tail -f /dev/null"]

    ran = bench.run(*bench.arguments("--watch", str(bench.out), trainer=trainer))

    assert ran.code == 75, ran.err
    assert "stopped the trainer (2 processes" in ran.err
    assert bench.living_trainers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system of its own")
def test_a_trainer_that_fills_the_disk(bench):
    """Its save fails, it dies: said with its code, and what was whole before is known as such."""
    bench.out.mkdir()
    trainer = bench.trainer("--precision", "fp32", "--pad-mb", "2", "--steps", "200")
    words = [sys.executable, "-m", "sentinel", *bench.arguments(trainer=trainer)]
    script = f"mount -t tmpfs -o size=9m none out && exec {shlex.join(words)}"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=bench.place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("a file system of our own cannot be mounted here")

    assert done.returncode == 1, done.stderr
    assert "No space left" in done.stderr
    assert _ends(bench) == ["ended"]
    rows = bench.log().checkpoints
    assert [row.step for row in rows] == [10, 20, 30, 40]
    assert {row.verdict for row in rows} <= {"healthy", "suspect"}
    assert any("the trainer ended with code 1" in told for told in _outcomes(bench))


@pytest.mark.parametrize(
    ("codes", "options", "fault", "code"),
    [
        ({"ended_faulty": 91}, ("--policy", "report"), "zero", 91),
        pytest.param(
            *({"stopped_by_policy": 92}, ("--policy", "stop"), "zero", 92), marks=pytest.mark.slow
        ),
        pytest.param({"gave_up": 0}, (), "nan", 0, marks=pytest.mark.slow),
    ],
)
def test_the_exit_codes_are_the_users(bench, codes, options, fault, code):
    """A scheduler that knows other codes is told its own."""
    config = bench.place / "other.yaml"
    settings = {"backoff_s": 0.05, "grace_s": 1.0, "exit_codes": codes}
    config.write_text(json.dumps(settings), encoding="utf-8")
    trainer = bench.trainer("--fault", fault, "--always", "--steps", "10")

    ran = bench.run(*bench.arguments("--config", str(config), *options, trainer=trainer))

    assert ran.code == code, ran.err
    assert _ends(bench)[-1] == "faulty"
