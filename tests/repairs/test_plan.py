"""What must hold of plans: the right place to begin from, the right precision, and an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.machine.device import Device
from sentinel.repairs.plan import START, Plan, Start, make_plan
from sentinel.verdict import Finding

AMPERE = Device("A100", bf16=True)
TURING = Device("T4", bf16=False)
UNKNOWN = Device("accelerator", bf16=None)


def finding(rule="nan-values", **resume):
    return Finding(rule, "critical", "text", remedy={"resume": resume})


def start(step, *, good=True, level="healthy", doubts=()):
    path = Path(f"/out/checkpoint-{step}")
    return Start(f"id-{step}", path, step, level, good=good, doubts=doubts)


def plan(findings, starts=(), failures=None, now="fp16", device=TURING):
    return make_plan(
        findings,
        starts=starts,
        failures=failures or {START: 1},
        faulty_step=40,
        precision_now=now,
        device=device,
    )


def test_the_newest_good_checkpoint_is_the_target():
    """Not the newest one: the newest that may be a target."""
    made = plan([finding(precision="fp32")], [start(10), start(20), start(30, good=False)])

    assert (made.target, made.target_step, made.steps_lost) == ("id-20", 20, 20)
    assert made.target_path == "/out/checkpoint-20"


def test_without_a_good_checkpoint_it_begins_at_the_start_and_says_so():
    """Never silently from scratch: the reason names step 0."""
    made = plan([finding(precision="fp32")], [start(10, good=False)])

    assert (made.target, made.target_step) == (None, 0)
    assert "restart from step 0" in made.reason


def test_a_suspect_target_is_said_aloud():
    """A suspect checkpoint may be a target, and the reason tells."""
    made = plan([finding(precision="fp32")], [start(10, level="suspect")])

    assert "suspect" in made.reason


def test_a_checkpoint_with_signs_of_the_fault_is_passed_over():
    """The last that passes the signals, not the last finite one; and the reason says so."""
    grown = start(30, level="suspect", doubts=("norm-explosion",))

    made = plan([finding(precision="fp32")], [start(10), start(20), grown])

    assert made.target_step == 20
    assert "step 30 is finite, but shows norm-explosion" in made.reason


def test_a_doubtful_checkpoint_is_better_than_none():
    """When every finite checkpoint shows signs, the newest is taken and said aloud."""
    doubtful = [start(step, level="suspect", doubts=("norm-explosion",)) for step in (10, 20)]

    made = plan([finding(precision="fp32")], doubtful)

    assert made.target_step == 20
    assert "norm-explosion speaks against it" in made.reason


@pytest.mark.parametrize(
    ("resume", "device", "expected"),
    [
        ({"precision": "auto", "cause": "range"}, AMPERE, "bf16"),
        ({"precision": "auto", "cause": "range"}, TURING, "fp32"),
        ({"precision": "auto", "cause": "range"}, UNKNOWN, "fp32"),
        ({"precision": "auto", "cause": "resolution"}, AMPERE, "fp32"),
        ({"precision": "fp32"}, AMPERE, "fp32"),
        ({"precision": "bf16"}, TURING, "bf16"),
        ({}, AMPERE, None),
    ],
)
def test_precision_follows_the_cause_and_the_device(resume, device, expected):
    """bf16 only where the device has it and the cause is range; fp32 where it is resolution."""
    assert plan([finding(**resume)], device=device).precision == expected


def test_fp32_wins_when_findings_disagree():
    """fp32 has the range of bf16 and more resolution, so it serves both."""
    findings = [finding(precision="auto", cause="range"), finding(precision="fp32")]

    assert plan(findings, device=AMPERE).precision == "fp32"


def test_a_changed_precision_drops_the_optimizer_state():
    """Saved state would bring the old settings back, and fp16 state kills the next run."""
    assert plan([finding(precision="fp32")], [start(10)]).optimizer == "drop"
    assert plan([finding()], [start(10)]).optimizer == "keep"


def test_the_precision_it_has_is_no_change():
    """A run that is in fp32 already is not "repaired" into fp32."""
    made = plan([finding(precision="fp32")], [start(10)], now="fp32")

    assert made.precision is None
    assert "already" in made.reason


def test_a_place_that_failed_twice_is_poisoned():
    """The same checkpoint twice: one further back; then the start; then the end."""
    starts = [start(10), start(20)]
    findings = [finding(precision="fp32")]

    assert plan(findings, starts, {"id-20": 1}).target == "id-20"
    assert plan(findings, starts, {"id-20": 2}).target == "id-10"
    assert plan(findings, starts, {"id-20": 2, "id-10": 2}).target is None
    assert plan(findings, starts, {"id-20": 2, "id-10": 2, START: 2}) is None


def test_a_plan_survives_the_journal():
    """What is written down for a restart is the plan itself."""
    made = plan([finding(precision="fp32")], [start(10)])

    assert Plan.from_detail(made.as_detail()) == made
