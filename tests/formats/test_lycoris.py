"""Files that LyCORIS itself writes, each algorithm at its start and after real updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus.lycoris_cases import ALGORITHMS, MODULES, save
from sentinel.formats.opening import open_checkpoint
from sentinel.stats.measure import Measured, measure

pytestmark = pytest.mark.trainer

LINEAR = "lycoris_4"
"""The last layer of the small net."""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., list[tuple[Any, Measured]]]:
    """A network over two linear layers and a norm, saved at its start and after training."""
    return lambda case: _written(tmp_path, case)


def _written(root: Path, case: str) -> list[tuple[Any, Measured]]:
    for name in ("torch", "lycoris"):
        pytest.importorskip(name)
    files = [
        save(ALGORITHMS[case], f"{name}.safetensors", root, np.random.default_rng(0), steps=steps)
        for name, steps in (("start", 0), ("trained", 3))
    ]
    opened = [open_checkpoint(file) for file in files]
    return [(checkpoint, measure(checkpoint, digest=False)) for checkpoint in opened]


@pytest.mark.parametrize("case", ALGORITHMS)
def test_each_algorithm(written, case: str) -> None:
    """At the start all modules are idle, three updates later none; each tensor has its role."""
    (start, fresh), (_later, trained) = written(case)

    assert start.layout == "kohya"
    assert {row["role"] for row in fresh.tensors.to_pylist()} <= {
        "lora_up",
        "lora_mid",
        "lora_down",
        "magnitude",
        "alpha",
        "adapter",
    }
    assert len(fresh.effects) == len(MODULES)
    assert set(fresh.effects["idle"].to_pylist()) == {True}
    assert set(trained.effects["idle"].to_pylist()) == {False}


@pytest.mark.parametrize("case", ALGORITHMS)
def test_the_tensors_said_to_start_at_zero_are_zero(written, case: str) -> None:
    """An alpha or a flag may be 0 too: those are numbers, not tensors that learn."""
    (_start, fresh), _trained = written(case)
    rows = [row for row in fresh.tensors.to_pylist() if row["shape"]]

    zero = {row["tensor"] for row in rows if row["zero_count"] == row["numel"]}

    assert {row["tensor"] for row in rows if row["zero_at_init"]} == zero


@pytest.mark.parametrize("case", ["loha", "lokr", "lokr-decomposed", "locon", "loha-scalar"])
def test_norms_are_those_of_the_formed_change(written, case: str) -> None:
    _start, (checkpoint, trained) = written(case)
    row = next(row for row in trained.effects.to_pylist() if row["module"] == LINEAR)

    assert row["norm"] == pytest.approx(_formed_norm(checkpoint.path, row["module"]), rel=1e-5)


def _formed_norm(path: Path, module: str) -> float:
    """The norm of the change, formed by numpy as LyCORIS' documentation defines it."""
    tensors = {
        name.removeprefix(f"{module}."): value.astype(np.float64)
        for name, value in load_file(path).items()
    }

    def side(name: str) -> np.ndarray:
        whole = tensors.get(name)
        return tensors[f"{name}_a"] @ tensors[f"{name}_b"] if whole is None else whole

    alpha = float(tensors["alpha"])
    if "lora_up.weight" in tensors:
        change = tensors["lora_up.weight"] @ tensors["lora_down.weight"] * alpha / 4
    elif "hada_w1_a" in tensors:
        change = side("hada_w1") * side("hada_w2") * alpha / 4
    else:
        thin = [tensors[name] for name in ("lokr_w1_b", "lokr_w2_b") if name in tensors]
        change = np.kron(side("lokr_w1"), side("lokr_w2")) * (alpha / len(thin[0]) if thin else 1)
    return float(np.linalg.norm(change))
