"""What must hold of `sentinel run`: the whole job on real processes, and every way it can end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")


def test_a_dead_adapter_is_restarted_in_fp32(bench):
    """All-zero lora_up: stopped, quarantined, restarted in fp32, verified, healthy at the end."""
    ran = bench.run(*bench.arguments(trainer=bench.trainer("--fault", "zero", "--linger-s", "60")))

    assert ran.code == 0, ran.err
    assert bench.steps() == [10, 20, 30, 40, 50, 60]
    assert "checkpoint-10" in bench.quarantined()
    log = bench.log()
    first = log.checkpoints[0]
    assert (first.attempt, first.step, first.verdict) == (1, 10, "faulty")
    last = [row for row in log.checkpoints if row.attempt == 2]
    assert [row.step for row in last] == [10, 20, 30, 40, 50, 60]
    assert {row.verdict for row in last} == {"healthy"}
    assert {row.settings["precision.adapter"] for row in last} == {"fp32"}
    plans = [event for event in log.events if event.kind == "plan"]
    assert [plan.detail["precision"] for plan in plans] == ["fp32"]
    proofs = [event.detail.get("result") for event in log.events if event.detail.get("result")]
    assert proofs == ["fixed"]


def test_nan_resumes_from_the_last_good_checkpoint(bench):
    """NaN from step 40 on: the next attempt begins at 30, and 30 is its parent."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "40", "--linger-s", "60")

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 0, ran.err
    rows = bench.log().checkpoints
    good = next(row for row in rows if row.attempt == 1 and row.step == 30)
    (plan,) = [event for event in bench.log().events if event.kind == "plan"]
    assert plan.detail["target"] == good.checkpoint_id
    assert plan.detail["target_step"] == 30
    second = [row for row in rows if row.attempt == 2]
    assert [row.step for row in second] == [40, 50, 60]
    assert second[0].parent == good.checkpoint_id
    assert "checkpoint-40" in bench.quarantined()
    assert bench.steps() == [10, 20, 30, 40, 50, 60]


def test_policy_report_never_acts(bench):
    """Only reported: the trainer runs to its end, nothing is moved, and the code says faulty."""
    ran = bench.run(
        *bench.arguments("--policy", "report", trainer=bench.trainer("--fault", "zero"))
    )

    assert ran.code == 70
    assert bench.steps() == [10, 20, 30, 40, 50, 60]
    assert bench.quarantined() == []
    assert {row.verdict for row in bench.log().checkpoints} == {"faulty"}


def test_policy_stop_does_not_start_again(bench):
    """Stopped and quarantined, but not resumed."""
    ran = bench.run(
        *bench.arguments(
            "--policy", "stop", trainer=bench.trainer("--fault", "zero", "--linger-s", "60")
        )
    )

    assert ran.code == 76
    assert bench.journal().last_attempt(bench.run_id).attempt == 1
    assert "checkpoint-10" in bench.quarantined()


def test_a_fault_that_comes_back_ends_in_giving_up(bench):
    """No endless loop: the same fault in every precision ends with its own code."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "20", "--always")

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 75
    attempts = bench.journal().attempts(bench.run_id)
    assert len(attempts) <= 4
    starts = [attempt.parent for attempt in attempts]
    assert max(starts.count(start) for start in starts) <= 2
    assert "not fixed" in {event.detail.get("result") for event in bench.log().events}


def test_a_healthy_run_is_left_alone(bench):
    """Nothing fires, the exit code is the trainer's own, one attempt."""
    ran = bench.run(*bench.arguments(trainer=bench.trainer("--exit-code", "5")))

    assert ran.code == 5
    assert {row.verdict for row in bench.log().checkpoints} == {"healthy"}
    assert len(bench.journal().attempts(bench.run_id)) == 1


def test_a_trainer_that_ignores_sigterm_is_killed(bench):
    """SIGTERM, grace, SIGKILL: before the restart nothing of it is alive."""
    trainer = bench.trainer("--fault", "zero", "--stubborn", "--linger-s", "60")

    ran = bench.run(*bench.arguments(trainer=trainer))

    assert ran.code == 0, ran.err
    assert "SIGKILL" in ran.err
    assert not (bench.place / "two-trainers-at-once").exists()


def test_a_faulty_choice_of_the_user_is_not_started(bench):
    """`--resume` of a faulty checkpoint: sentinel begins from the good one before it."""
    seed = [*bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "30")]
    subprocess.run(seed, check=True)
    command = bench.trainer("--fault", "nan", "--resume", str(bench.out / "checkpoint-30"))

    ran = bench.run(*bench.arguments(trainer=command))

    assert ran.code == 0, ran.err
    attempt = bench.journal().attempts(bench.run_id)[0]
    assert str(bench.out / "checkpoint-20") in attempt.command


def test_an_unknown_trainer_is_stopped_but_not_resumed(bench):
    """Without a recipe sentinel says so at once, stops on a fault, and gives up."""
    trainer = bench.trainer("--fault", "zero", "--linger-s", "60")
    trainer[1] = str(_copy_under_another_name(bench, trainer[1]))

    ran = bench.run(*bench.arguments("--watch", str(bench.out), trainer=trainer))

    assert ran.code == 75
    assert "no recipe knows this command" in ran.err
    assert "checkpoint-10" in bench.quarantined()


def test_sigterm_stops_the_trainer_and_ends(bench):
    """A signal to sentinel ends the trainer with it; nothing is left running."""
    process = bench.start(*bench.arguments(trainer=bench.trainer("--pace-s", "60")))
    for line in process.stdout:
        if "healthy" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    assert bench.living_trainers() == []


def test_two_sentinels_never_guard_one_run(bench):
    """The second one is refused in one line while the first goes on."""
    process = bench.start(*bench.arguments(trainer=bench.trainer("--pace-s", "60")))
    for line in process.stdout:
        if "attempt 1 started" in line:
            break
    second = bench.run(*bench.arguments(trainer=bench.trainer()))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert second.code == 2
    assert "already guarded" in second.err


def test_a_command_that_cannot_start_is_one_line(bench):
    """A program that is not there: one sentence and exit code 2."""
    ran = bench.run(*bench.arguments("--watch", str(bench.out), trainer=["/no/such/program"]))

    assert ran.code == 2
    assert "was not found" in ran.err


def test_the_receipt_of_a_quarantine_tells_why(bench):
    """Whoever finds a checkpoint in the quarantine reads why, and from where."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "20", "--linger-s", "60")

    bench.run(*bench.arguments(trainer=trainer))

    (place,) = (bench.place / ".sentinel-quarantine").glob("*/checkpoint-20")
    receipt = json.loads((place.parent / "receipt.json").read_text(encoding="utf-8"))
    assert receipt["from"] == str(bench.out / "checkpoint-20")
    assert "nan-values" in receipt["rules"]


def _copy_under_another_name(bench, program):
    return shutil.copy(program, bench.place / "somebody_elses.py")
