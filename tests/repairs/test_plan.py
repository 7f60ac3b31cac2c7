"""What must hold of plans: the right place to begin from, the right precision, and an end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentinel.machine.device import Device
from sentinel.repairs.plan import START, Now, Plan, Start, make_plan
from sentinel.repairs.recipes import Recipe
from sentinel.verdict import Finding

AMPERE = Device("A100", bf16=True)
TURING = Device("T4", bf16=False)
UNKNOWN = Device("accelerator", bf16=None)
TOY = {
    "id": "toy",
    "title": "Toy",
    "precision": {"fp32": {"dtype": "fp32"}, "bf16": {"dtype": "bf16"}},
    "settings": {"optimizer.learning_rate": {"field": "lr"}, "scheduler.name": {"field": "plan"}},
    "resume": {"keep": {}, "drop": {}},
}


def finding(rule="nan-values", **resume):
    return Finding(rule, "critical", "text", remedy={"resume": resume})


def start(step, *, good=True, level="healthy", doubts=(), spoilt=()):
    path = Path(f"/out/checkpoint-{step}")
    return Start(f"id-{step}", path, step, level, good=good, doubts=doubts, spoilt=spoilt)


def recipe(**parts) -> Recipe:
    return Recipe.model_validate(TOY | parts)


def plan(findings, starts=(), failures=None, *, now="fp16", device=TURING, told=None, **has):
    return make_plan(
        findings,
        starts=starts,
        failures=failures or {START: 1},
        faulty_step=40,
        now=Now(precision=now, **has),
        device=device,
        recipe=told or recipe(),
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


def test_spoilt_weights_are_no_place_to_go_on_from():
    """Weights that a diverging step has blown up are not mended by a lower rate from there on."""
    grown = {"doubts": ("norm-explosion",), "spoilt": ("norm-explosion",)}
    slow = finding(settings={"optimizer.learning_rate": {"times": 0.1}})
    has = {"settings": {"optimizer.learning_rate": 0.1}}
    made = plan([slow], [start(10, **grown), start(20, **grown)], now="fp32", **has)
    later = plan([slow], [start(10), start(20, **grown)], now="fp32", **has)
    vain = plan([finding()], [start(10, **grown)], {START: 2}, now="fp32")

    assert (made.target, made.settings) == (None, {"optimizer.learning_rate": pytest.approx(0.01)})
    assert "every checkpoint before shows norm-explosion, which no resume mends" in made.reason
    assert later.target == "id-10"
    assert vain.target == "id-10", "the beginning was tried twice, and nothing would change"


def test_the_beginning_is_tried_again_as_long_as_something_changes():
    """What failed twice at one rate may hold at the next; the same once more would not."""
    slower = finding(settings={"optimizer.learning_rate": {"times": 0.5}})

    assert plan([slower], [], {START: 2}, settings={"optimizer.learning_rate": 0.1}) is not None
    assert plan([finding()], [], {START: 2}) is None


def test_a_place_that_failed_twice_is_poisoned():
    """The same checkpoint twice: one further back; then the start; then the end."""
    starts = [start(10), start(20)]
    findings = [finding(precision="fp32")]

    assert plan(findings, starts, {"id-20": 1}).target == "id-20"
    assert plan(findings, starts, {"id-20": 2}).target == "id-10"
    assert plan(findings, starts, {"id-20": 2, "id-10": 2}).target is None
    assert plan(findings, starts, {"id-20": 2, "id-10": 2, START: 2}, now="fp32") is None


def test_a_plan_survives_the_journal():
    """What is written down for a restart is the plan itself."""
    made = plan([finding(precision="fp32")], [start(10)])

    assert Plan.from_detail(made.as_detail()) == made


# -- settings -------------------------------------------------------------------------------------

RATE = "optimizer.learning_rate"


def wanting(rule="norm-explosion", severity="critical", **settings):
    remedy = {"resume": {"settings": {name.replace("__", "."): v for name, v in settings.items()}}}
    return Finding(rule, severity, "text", remedy=remedy)


def test_a_rate_is_halved_and_the_state_that_holds_the_old_one_dropped():
    """A setting changes, so the optimizer state that would bring it back is not loaded."""
    findings = [wanting(optimizer__learning_rate={"times": 0.5})]

    made = plan(findings, [start(10)], settings={RATE: 1e-3})

    assert made.settings == {RATE: 5e-4}
    assert made.optimizer == "drop"
    assert "with optimizer.learning_rate 0.0005" in made.reason


def test_what_a_trainer_cannot_be_told_is_said():
    """Never silently left out: the reason names it, and the plan does not claim it."""
    made = plan([wanting(optimizer__args__scale_parameter=False)], [start(10)])

    assert made.settings == {}
    assert "Toy cannot be told optimizer.args.scale_parameter by sentinel" in made.reason


def test_a_second_repair_keeps_the_first():
    """Each start is composed from the user's own command, so earlier changes are carried on."""
    first = plan([finding(precision="fp32")], [start(10)])
    findings = [wanting(optimizer__learning_rate={"times": 0.5})]

    second = plan(findings, [start(10)], now="fp32", settings={RATE: 1e-3}, before=first)

    assert (second.precision, second.settings) == ("fp32", {RATE: 5e-4})


def test_a_forward_pass_in_fp16_is_changed_where_the_weights_are_fp32_already():
    """The cause is range and the weights are fp32: bf16 for the autocast, and they stay."""
    told = recipe(compute={"bf16": {"mixed": "bf16"}, "fp32": {"mixed": "no"}})
    findings = [finding(precision="auto", cause="range")]

    made = plan(findings, [start(10)], now="fp32", compute="fp16", device=AMPERE, told=told)

    assert (made.precision, made.compute) == (None, "bf16")
    assert made.optimizer == "keep"


def test_a_cause_in_resolution_leaves_the_forward_pass():
    """Small updates are lost in the weights, not in the autocast, which keeps its speed."""
    told = recipe(compute={"fp32": {"mixed": "no"}})

    made = plan([finding(precision="fp32", cause="resolution")], compute="fp16", told=told)

    assert (made.precision, made.compute) == ("fp32", None)


def test_state_that_is_at_fault_itself_is_dropped():
    """A target whose second moments vanished is begun without its optimizer state."""
    stale = Start("id-10", Path("/out/checkpoint-10"), 10, "suspect", good=True, stale_state=True)

    assert plan([finding()], [stale]).optimizer == "drop"


def test_a_trainer_that_cannot_resume_begins_anew_and_says_what_is_lost():
    """No route from a checkpoint: a restart, said aloud with the steps lost."""
    told = recipe(resume={"into": "new", "restart": {"says": "all is trained again"}})

    made = plan([finding(precision="fp32")], [start(10)], told=told)

    assert (made.target, made.steps_lost) == (None, 40)
    assert made.reason.startswith("restart from step 0, since Toy cannot resume, and 40 steps are")
    assert made.reason.endswith("all is trained again")


@pytest.mark.parametrize(
    ("found", "optimizer"), [(finding(optimizer="drop"), "keep"), (finding(precision="fp32"), None)]
)
def test_a_trainer_that_cannot_leave_the_state_out(found, optimizer):
    """Only asked for, it is kept; where it would undo the change, the run begins anew."""
    made = plan([found], [start(10)], told=recipe(resume={"keep": {}}))

    if optimizer is None:
        assert made.target is None
        assert "cannot resume without the saved optimizer state" in made.reason
    else:
        assert (made.target, made.optimizer) == ("id-10", "keep")


@pytest.mark.parametrize(
    ("name", "optimizer"), [("cat.safetensors", "drop"), ("cat.v1-state", "keep")]
)
def test_only_a_directory_holds_an_optimizer_state(name, optimizer):
    """A file of weights cannot be resumed with a state that is not in it, and says so."""
    told = recipe(resume={"keep": {"directory": True}, "drop": {}})
    place = Start("id-10", Path(f"/out/{name}"), 10, "healthy", good=True)

    assert plan([finding()], [place], told=told).optimizer == optimizer


def test_a_plan_comes_back_from_the_journal_as_it_was():
    """Also one that an earlier version wrote, without the newer fields."""
    made = plan([wanting(optimizer__learning_rate=1.0)], [start(10)])

    assert Plan.from_detail(json.loads(json.dumps(made.as_detail()))) == made
    older = {"rules", "target", "target_path", "target_step", "precision", "optimizer"}
    older |= {"reason", "steps_lost"}
    detail = {name: value for name, value in made.as_detail().items() if name in older}
    assert Plan.from_detail(detail).settings == {}
