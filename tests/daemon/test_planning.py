"""What must hold of plans for a user's own command: where it goes on, and what is known of now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commands import command_of, recipe_of

from sentinel.daemon.beginning import own_choice
from sentinel.daemon.journal import Judged
from sentinel.daemon.launching import RunSettings
from sentinel.daemon.planning import Planner
from sentinel.repairs.asking import Asked, asked_of
from sentinel.repairs.plan import Plan
from sentinel.rules.load import load_rules
from sentinel.verdict import Finding

RANGE = {"resume": {"precision": "auto", "cause": "range", "optimizer": "drop"}}
NAN = Finding("nan-values", "critical", "2 of 4 tensors hold NaN", remedy=RANGE)


def planner(trainer: str, place: Path) -> Planner:
    command, recipe = command_of(trainer, place), recipe_of(trainer)
    asked = asked_of(recipe, command, place)
    return Planner(recipe, command, place, (asked.output or place,), asked)


def judged(path: Path, step: int, *, target=True, findings=(), settings=None) -> Judged:
    return Judged(
        checkpoint_id=f"c{step}",
        run_id="run",
        attempt=1,
        seq=step,
        parent=None,
        path=path,
        step=step,
        updates_done=step,
        level="healthy" if target else "faulty",
        target=target,
        findings=findings,
        settings={"device.type": "cpu", "device.bf16": False, **(settings or {})},
    )


def planned(trainer: str, place: Path, *, findings=(NAN,), settings=None, before=None) -> Plan:
    made = planner(trainer, place)
    out = made.roots[0]
    good = judged(out / "checkpoint-20", 20)
    faulty = judged(out / "checkpoint-30", 30, target=False, findings=findings, settings=settings)
    plan = made.plan(findings, faulty=[faulty], starts=[good], failures={}, before=before, number=2)
    assert plan is not None
    return plan


def test_a_repair_goes_on_beside_the_own_directory(tmp_path: Path):
    """In `<output>-resumed/<number>`, and the copy's place in it is known."""
    plan = planned("transformers", tmp_path)

    assert plan.output == str(tmp_path / "out-resumed" / "2")
    assert plan.copy == str(tmp_path / "out-resumed" / "2" / "checkpoint-20")


def test_a_directory_that_is_there_is_never_taken_for_ours(tmp_path: Path):
    """Somebody's `out-resumed/2` stays as it is: the next number is taken."""
    (tmp_path / "out-resumed" / "2").mkdir(parents=True)

    assert planned("transformers", tmp_path).output == str(tmp_path / "out-resumed" / "3")


@pytest.mark.parametrize(
    ("settings", "precision", "compute"),
    [
        ({"precision.adapter": "fp32", "precision.training": "fp16"}, None, "fp32"),
        ({"precision.adapter": "fp16", "precision.training": "fp16"}, "fp32", "fp32"),
        ({"precision.adapter": "fp16", "precision.training": "bf16"}, "fp32", None),
        ({"precision.adapter": "fp32", "precision.training": "bf16"}, None, None),
    ],
    ids=["autocast-in-fp16", "all-in-fp16", "weights-in-fp16", "nothing-in-fp16"],
)
def test_what_is_in_fp16_is_changed_and_nothing_else(tmp_path: Path, settings, precision, compute):
    """By what the faulty checkpoint says of itself, on a device without bf16."""
    plan = planned("onetrainer", tmp_path, settings=settings)

    assert (plan.precision, plan.compute) == (precision, compute)


def test_the_checkpoint_is_believed_before_the_configuration(tmp_path: Path):
    """The configuration says FLOAT_16; where the checkpoint is fp32 already it has taken effect."""
    settings = {"precision.adapter": "fp32", "precision.training": "fp32"}
    plan = planned("onetrainer", tmp_path, settings=settings)

    assert "already trained in fp32" in plan.reason


def test_adafactors_four_settings_are_set_together(tmp_path: Path):
    """One alone makes it worse: both switches, the rate and the schedule, from one finding."""
    (rule,) = [rule for rule in load_rules() if rule.id == "adafactor-scale-parameter"]
    remedy = dict(rule.remedy)
    finding = Finding(rule.id, "critical", "text", remedy=remedy)

    plan = planned("onetrainer", tmp_path, findings=[finding])

    assert plan.settings == {
        "optimizer.args.scale_parameter": False,
        "optimizer.args.relative_step": False,
        "optimizer.learning_rate": 3e-4,
        "scheduler.name": "constant",
    }
    assert plan.optimizer == "drop"


def test_a_script_that_tells_no_precision_is_said(tmp_path: Path):
    """Nothing on the command carries it: the plan says that the script is to be changed."""
    made = planner("transformers", tmp_path)
    words = [word for word in made.command if word not in {"--fp16", "--dtype", "float16"}]
    made = replace(made, command=tuple(words))
    faulty = judged(tmp_path / "out" / "checkpoint-30", 30, target=False, findings=[NAN])

    plan = made.plan([NAN], faulty=[faulty], starts=[], failures={}, before=None, number=2)

    assert plan is not None
    assert "the command tells none of fp16" in plan.reason


def test_a_configuration_that_is_gone_meanwhile_is_said(tmp_path: Path):
    """The plan is made all the same; the start will refuse it."""
    made = planner("onetrainer", tmp_path)
    (tmp_path / "train.json").unlink()
    plan = made.placed(planned("transformers", tmp_path), 2)

    assert "train.json" in plan.reason
    assert plan.output is None


# -- where it begins by itself --------------------------------------------------------------------


def choice(begins, output: Path, *known: Judged) -> Judged | None:
    settings = RunSettings(
        command=("x",),
        cwd=output,
        roots=(output,),
        recipe=recipe_of("simpletuner"),
        asked=Asked(output=output, begins=begins),
    )
    return own_choice(settings, known)


def test_the_latest_is_that_of_its_own_directory(tmp_path: Path):
    """What an earlier repair left in a fresh directory is not in the trainer's reach."""
    out = tmp_path / "out"
    own = judged(out / "checkpoint-20", 20)
    other = judged(tmp_path / "out-resumed" / "2" / "checkpoint-40", 40)

    assert choice("latest", out, own, other) is own
    assert choice(None, out, own, other) is None
    assert choice(other.path, out, own, other) is other
