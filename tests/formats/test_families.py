"""Every adapter family PEFT has, written by PEFT: at the start without effect, after training not.

The start is no fault at 0 updates and dead after some; what was trained is neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from corpus import models
from corpus.families import FAMILIES, Family
from sentinel.flow import Inspected, conclude
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.load import load_rules
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

IDLE_AT_START = [name for name, family in FAMILIES.items() if family.idle is True]
"""What PEFT starts without any effect that the file shows."""

NEVER_IDLE = [name for name, family in FAMILIES.items() if family.idle is not True]
"""What begins with an effect, or with one that only the base could tell."""

WHOLE_COPIES = frozenset({"lora-head", "lora-velora"})
"""What holds more than an adapter's own tensors: a copy of a head, a buffer that begins at zero."""

_ASKED = ("dead-", "partly-dead-", "adapter-keys-load-nothing")
RULES = tuple(rule for rule in load_rules() if rule.id.startswith(_ASKED))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Inspected, ...]]:
    """An adapter over a tiny Llama, read as saved at its start and after three real updates."""
    root = tmp_path_factory.mktemp("families")
    return cache(lambda name: _start_and_trained(root / name, FAMILIES[name]))


def _start_and_trained(root: Path, family: Family) -> tuple[Inspected, ...]:
    for name in ("peft", "transformers", *family.needs):
        pytest.importorskip(name)
    if not hasattr(pytest.importorskip("peft"), family.config):
        pytest.skip(f"this PEFT has no {family.config}")
    pytest.importorskip("torch").manual_seed(0)
    model = models.adapted(family)
    model.save_pretrained(root / "start")
    models.train(model, inputs=family.inputs)
    model.save_pretrained(root / "trained")
    return tuple(_inspect(root / place) for place in ("start", "trained"))


def _inspect(path: Path) -> Inspected:
    checkpoint = open_checkpoint(path)
    return Inspected(checkpoint, measure(checkpoint, digest=False))


def found(inspected: Inspected, *, updates_done: int | None) -> set[str]:
    """The rules about dead adapters, and about keys PEFT passes over, that fire."""
    checkpoint = replace(inspected.checkpoint, updates_done=updates_done)
    verdict = conclude(replace(inspected, checkpoint=checkpoint), rules=RULES).verdict
    return {finding.rule for finding in verdict.findings}


@pytest.mark.parametrize("family", IDLE_AT_START)
def test_a_family_that_starts_without_effect(adapted, family: str) -> None:
    start, trained = adapted(family)

    assert start.measured.effects.num_rows
    assert set(start.measured.effects["idle"].to_pylist()) == {True}
    assert set(trained.measured.effects["idle"].to_pylist()) == {False}
    assert found(start, updates_done=0) == set()
    assert found(start, updates_done=3) == {"dead-lora-up"}
    assert found(trained, updates_done=3) == set()


@pytest.mark.parametrize("family", NEVER_IDLE)
def test_a_family_that_is_never_without_effect(adapted, family: str) -> None:
    start, trained = adapted(family)

    assert not any(start.measured.effects["idle"].to_pylist())
    assert found(start, updates_done=3) == set()
    assert found(trained, updates_done=3) == set()


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - WHOLE_COPIES))
def test_the_tensors_said_to_start_at_zero_are_those_that_do(adapted, family: str) -> None:
    """PEFT's own file is the judge, and every tensor in it has a role."""
    start, _trained = adapted(family)
    rows = start.measured.tensors.to_pylist()

    zero = {row["tensor"] for row in rows if row["zero_count"] == row["numel"]}

    assert {row["tensor"] for row in rows if row["zero_at_init"]} == zero
    assert not [row["tensor"] for row in rows if row["role"] in {"other", "modules_to_save"}]


@pytest.mark.parametrize("family", ["loha", "lokr", "lokr-decomposed", "lora"])
def test_norms_are_those_of_the_change_peft_makes(adapted, family: str) -> None:
    """Gram matrices and products of norms give what the merged weight differs by."""
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    _start, trained = adapted(family)
    model = peft.PeftModel.from_pretrained(models.tiny_llama(), trained.checkpoint.path)

    for row in trained.measured.effects.to_pylist():
        layer = model.get_submodule(f"base_model.model.{row['module']}")
        delta = layer.get_delta_weight("default").detach().double()
        assert row["norm"] == pytest.approx(float(torch.linalg.norm(delta)), rel=1e-4)
