"""What must hold of the proof of a repair: it is said when it is known, and never too early."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.daemon.journal import Judged
from sentinel.daemon.verifying import CLEAN_UNTIL_FIXED, NOISY, WORSE, verify
from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Effect
from sentinel.verdict import Finding

EFFECT = Effect(precision="precision.adapter")


def plan(**given) -> Plan:
    facts = {
        "rules": ("nan-values",),
        "target": "c20",
        "target_path": "/out/checkpoint-20",
        "target_step": 20,
        "precision": "fp32",
        "optimizer": "drop",
        "reason": "because",
        "steps_lost": 10,
    }
    return Plan(**(facts | given))


def judged(step: int | None = 30, *rules: str, loss=None, precision="fp32", level=None) -> Judged:
    findings = tuple(Finding(rule=rule, severity="critical", message=rule) for rule in rules)
    return Judged(
        checkpoint_id=f"c{step}",
        run_id="run",
        attempt=2,
        seq=1,
        parent=None,
        path=Path(f"/out/checkpoint-{step}"),
        step=step,
        updates_done=step,
        level=level or ("faulty" if rules else "healthy"),
        target=not rules,
        findings=findings,
        settings={} if precision is None else {"precision.adapter": precision},
        loss=loss,
    )


def proof(*after: Judged, before: float | None = None, ended: bool = False, effect=EFFECT, **given):
    return verify(plan(**given), after, effect=effect, loss_before=before, ended=ended)


@pytest.mark.parametrize("ended", [False, True])
def test_nothing_written_proves_nothing(ended):
    """Without a checkpoint there is nothing to tell, also at the end."""
    assert proof(ended=ended) is None


def test_one_clean_checkpoint_is_too_early():
    """One clean checkpoint is enough only when no more come."""
    assert proof(judged(30)) is None
    assert proof(judged(30), ended=True).result == "fixed"


def test_fixed_after_enough():
    """Two clean checkpoints: fixed, with how many and up to where; at the end the losses too."""
    after = (judged(30, loss=2.0), judged(40, loss=1.5))
    early, found = (proof(*after, before=3.0, ended=ended) for ended in (False, True))

    told = "nan-values is gone from 2 checkpoints up to step 40"
    assert (early.result, early.message) == ("fixed", told)
    assert (found.result, found.message) == ("fixed", f"{told}, loss 3.000 -> 1.500")
    assert (found.loss_before, found.loss_after) == (3.0, 1.5)


def test_back_again():
    """The rule that asked for the repair fires again: not fixed, and where first."""
    found = proof(judged(30), judged(40, "nan-values"), judged(50, "nan-values"))

    assert found.result == "not fixed"
    assert found.message == "nan-values is back at step 40"


def test_another_fault_is_no_success():
    """A repair that leads to another fault is never called fixed."""
    found = proof(judged(30), judged(40, "norm-explosion"), ended=True)

    assert found.result == "worse"
    assert "nan-values is gone, but step 40 shows norm-explosion" in found.message


@pytest.mark.parametrize("ended", [False, True])
def test_what_cannot_be_read_proves_nothing(ended):
    """Unreadable checkpoints are not clean ones."""
    torn = judged(40, "truncated-file", level="unreadable")

    assert proof(torn, ended=ended) is None
    assert proof(judged(30), torn, torn) is None
    assert proof(judged(30), torn, judged(50)).message.startswith(
        "nan-values is gone from 2 checkpoints up to step 50"
    )


def test_a_change_without_effect():
    """The setting the trainer wrote is not the one it was told: said before anything else."""
    found = proof(judged(30, "nan-values", precision="fp16"))

    assert found.result == "no effect"
    assert found.message == (
        "the trainer was told to use fp32, but step 30 says precision.adapter is fp16"
    )


@pytest.mark.parametrize(
    ("given", "effect", "precision"),
    [({"precision": None}, EFFECT, "fp16"), ({}, Effect(), "fp16"), ({}, EFFECT, None)],
    ids=["nothing-changed", "no-recipe-says-where", "not-written-down"],
)
def test_an_effect_that_cannot_be_seen(given, effect, precision):
    """Where nothing tells what took effect, the findings alone decide."""
    after = [judged(step, precision=precision) for step in (30, 40)]

    assert proof(*after, effect=effect, **given).result == "fixed"


def test_worse():
    """The finding is gone, but the loss went up by more than a tenth."""
    after = [judged(30, loss=2.25), judged(40, loss=2.3)]

    assert proof(*after, before=2.0, ended=True).result == "worse"
    assert proof(*after, before=2.2, ended=True).result == "fixed"
    assert proof(*after, before=2.0).result == "fixed", "too early to compare losses"


def test_one_noisy_loss_is_not_worse():
    """That of a single step of a diffusion model goes up and down by more than a tenth."""
    after = [judged(30, loss=2.1), judged(40, loss=1.9), judged(50, loss=2.3), judged(60, loss=2.3)]

    assert proof(*after, before=2.0, ended=True).result == "fixed"
    assert proof(*after[2:], before=2.0, ended=True).result == "worse"


def test_a_last_save_without_step_and_loss():
    """Axolotl's lies in the output directory itself: place and loss are the last known ones."""
    after = [judged(30, loss=2.0), judged(40, loss=1.5), judged(None)]

    found = proof(*after, before=3.0, ended=True)

    assert found.message.endswith("from 3 checkpoints up to step 40, loss 3.000 -> 1.500")
    assert found.loss_after == 1.5


@pytest.mark.parametrize(
    ("before", "after"), [(None, 5.0), (math.nan, 5.0), (2.0, None), (2.0, math.nan)]
)
def test_losses_that_cannot_be_compared(before, after):
    """A loss that is missing or not finite neither proves nor disproves anything."""
    found = proof(judged(30), judged(40, loss=after), before=before, ended=True)

    assert found.result == "fixed"
    assert "loss" not in found.message


def test_without_a_step():
    """A checkpoint of an unknown step goes by its name."""
    assert "'checkpoint-None'" in proof(judged(None), ended=True).message


@given(
    losses=st.lists(st.none() | st.floats(0.01, 10.0), min_size=1, max_size=5),
    before=st.none() | st.floats(0.01, 10.0),
    ended=st.booleans(),
)
def test_clean_checkpoints_are_fixed_or_worse(losses, before, ended):
    """Laws: enough clean ones always give a proof, and worse only by a loss that says so."""
    found = proof(
        *(judged(30 + at, loss=loss) for at, loss in enumerate(losses)), before=before, ended=ended
    )

    if found is None:
        assert len(losses) < CLEAN_UNTIL_FIXED
        assert not ended
        return
    last = [loss for loss in losses if loss is not None][-NOISY:]
    rose = ended and before is not None and bool(last) and min(last) > WORSE * before
    assert found.result == ("worse" if rose else "fixed")


# -- settings -------------------------------------------------------------------------------------

RATE = {"optimizer.learning_rate": 5e-4}


def told(rate) -> Judged:
    return replace(
        judged(40), settings={"precision.adapter": "fp32", "optimizer.learning_rate": rate}
    )


@pytest.mark.parametrize(
    ("rate", "result"), [(5e-4, "fixed"), (5.0000001e-4, "fixed"), (1e-3, "no effect")]
)
def test_every_changed_setting_must_show(rate, result):
    """A rate that the saved optimizer brought back is seen in the next checkpoint."""
    found = proof(judged(30), told(rate), settings=RATE)

    assert found.result == result
    if result == "no effect":
        assert "told optimizer.learning_rate 0.0005, but step 40 says it is 0.001" in found.message


@pytest.mark.parametrize(
    ("compute", "seen", "result"),
    [("bf16", "fp16", "no effect"), ("bf16", "bf16", "fixed"), ("fp32", "no", "fixed")],
)
def test_the_forward_passs_precision_must_show(compute, seen, result):
    """Told bf16, still in fp16: no effect. Without an autocast it is fp32."""
    effect = Effect(precision="precision.adapter", compute="precision.training")
    settings = {"precision.adapter": "fp32", "precision.training": seen}
    after = [replace(judged(step), settings=settings) for step in (30, 40)]

    assert proof(*after, effect=effect, compute=compute).result == result


def test_fp32_is_no_less_than_the_bf16_that_was_asked_for():
    """PEFT keeps an adapter in fp32 over a bf16 base: nothing speaks against the repair."""
    assert proof(judged(30), judged(40), precision="bf16").result == "fixed"
