"""What must hold of `sentinel resume`: a run that ended badly goes on as its findings ask."""

from __future__ import annotations

import os
import signal

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")


def resume(bench, *options: str):
    """Resume the bench's run, from a directory that is not its own."""
    elsewhere = bench.place / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    return bench.run("resume", "--state", str(bench.state), *options, cwd=elsewhere)


def test_a_run_that_the_policy_stopped(bench):
    """It goes on in fp32, and the policy holds for what comes after."""
    trainer = bench.trainer("--fault", "zero", "--linger-s", "60")
    assert bench.run(*bench.arguments("--policy", "stop", trainer=trainer)).code == 76

    ran = resume(bench)

    assert ran.code == 0, ran.err
    second = bench.journal().last_attempt(bench.run_id)
    assert (second.attempt, second.plan["precision"]) == (2, "fp32")
    assert bench.steps() == [10, 20, 30, 40, 50, 60]
    assert "fixed" in {event.detail.get("result") for event in bench.log().events}


def test_a_dry_run_moves_and_starts_nothing(bench):
    """It says what would be moved, where it would begin and what would be started."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "40")
    assert bench.run(*bench.arguments("--policy", "report", trainer=trainer)).code == 70
    before = bench.steps()

    ran = resume(bench, str(bench.out), "--dry-run")

    assert ran.code == 0, ran.err
    assert f"would move '{bench.out / 'checkpoint-40'}' away, which is faulty" in ran.out
    assert "would resume from step 30" in ran.out
    assert f"--resume {bench.out / 'checkpoint-30'}" in ran.out.splitlines()[-1]
    assert bench.steps() == before
    assert bench.quarantined() == []
    assert len(bench.journal().attempts(bench.run_id)) == 1


def test_a_run_that_was_only_reported(bench):
    """What was told and not acted on is repaired now; the report policy holds afterwards."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "40")
    bench.run(*bench.arguments("--policy", "report", trainer=trainer))

    ran = resume(bench)

    assert ran.code == 0, ran.err
    assert bench.quarantined() == ["checkpoint-40", "checkpoint-50", "checkpoint-60"]
    assert {row.verdict for row in bench.log().checkpoints if row.attempt == 2} == {"healthy"}


def test_an_interrupted_run_goes_on_where_it_was(bench):
    """Nothing was wrong: the newest checkpoint, its optimizer state, the user's settings."""
    process = bench.start(*bench.arguments(trainer=bench.trainer("--pace-s", "60")))
    for line in process.stdout:
        if "healthy" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    newest = bench.steps()[-1]

    ran = resume(bench, "--dry-run")

    assert ran.code == 0, ran.err
    assert f"would resume from step {newest}, the last good checkpoint" in ran.out
    assert "with its optimizer state" in ran.out


def test_an_interrupted_repair_keeps_its_precision(bench):
    """The user's own command would bring the fault back."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "30", "--linger-s", "60")
    process = bench.start(*bench.arguments(trainer=[*trainer, "--pace-s", "1"]))
    for line in process.stdout:
        if "attempt 2 started" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    ran = resume(bench)

    assert ran.code == 0, ran.err
    last = bench.journal().last_attempt(bench.run_id)
    assert (last.attempt, last.plan["precision"]) == (3, "fp32")
    assert bench.steps() == [10, 20, 30, 40, 50, 60]


def test_a_run_that_gave_up_gets_further_attempts(bench):
    """Asked once again, it tries; a place that failed twice stays poisoned."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "20", "--always")
    assert bench.run(*bench.arguments("--max-attempts", "1", trainer=trainer)).code == 75

    ran = resume(bench)

    assert ran.code == 75, ran.err
    attempts = bench.journal().attempts(bench.run_id)
    assert len(attempts) == 2
    assert attempts[1].plan["target_step"] == 10


def test_a_run_that_ended_well_is_over(bench):
    """Nothing is started again."""
    assert bench.run(*bench.arguments(trainer=bench.trainer())).code == 0

    foreseen, ran = resume(bench, "--dry-run"), resume(bench)

    assert foreseen.code == 1
    assert foreseen.out.startswith("nothing to resume")
    assert (ran.code, "nothing to resume" in ran.err) == (0, True)
    assert len(bench.journal().attempts(bench.run_id)) == 1


def test_what_cannot_be_resumed_is_one_sentence(bench):
    """No run at all, one that is not there, one that was only watched."""
    assert "knows no run" in resume(bench).err
    bench.run_plain(bench.trainer())
    bench.run("watch", "--once", "--state", str(bench.state), str(bench.out))

    nothing, unknown, watched = resume(bench), resume(bench, "x"), resume(bench, bench.run_id)

    assert "was never started" in nothing.err
    assert "run 'x': is not known here" in unknown.err
    assert "was only watched" in watched.err
    assert {nothing.code, unknown.code, watched.code} == {2}


@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(number, when, marks=[] if number == 4 else [pytest.mark.slow])
        for when in ("before", "after")
        for number in range(1, 15)
    ],
)
def test_a_killed_resume_is_finished_by_the_next(bench, number, when):
    """Whichever of its commits it is killed at: one further attempt, from the right place."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "30", "--steps", "40")
    trainer += ["--pace-s", "0.3", "--linger-s", "60"]
    assert bench.run(*bench.arguments("--policy", "stop", trainer=trainer)).code == 76

    bench.run("resume", "--state", str(bench.state), kill_at=number, when=when)
    ran = resume(bench)

    assert ran.code == 0, ran.err
    attempts = bench.journal().attempts(bench.run_id)
    if not any(attempt.outcome == "lost" for attempt in attempts):  # ended while nobody looked
        assert [attempt.attempt for attempt in attempts] == [1, 2]
    assert attempts[1].plan["target_step"] == 20
    assert attempts[1].plan["precision"] == "fp32"
    assert bench.steps() == [10, 20, 30, 40]
    assert not (bench.place / "two-trainers-at-once").exists()
