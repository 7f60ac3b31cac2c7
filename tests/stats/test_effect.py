"""Whether a module changes anything: exact, three-valued, and safe on odd shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sentinel.checkpoint import Checkpoint
from sentinel.formats.opening import open_checkpoint
from sentinel.stats.effect import TERMS
from sentinel.stats.measure import measure

Save = Callable[[dict[str, np.ndarray]], Checkpoint]


def effects(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    return measure(checkpoint, digest=False).effects.to_pylist()


def test_the_factor_that_keeps_a_module_idle_is_named(saved: Save) -> None:
    """Also where it is not the one its initialisation sets to zero."""
    up, down = np.ones((4, 2), "f4"), np.zeros((2, 6), "f4")

    [row] = effects(saved({"m.lora_up.weight": up, "m.lora_down.weight": down}))

    assert (row["tensor"], row["role"]) == ("m.lora_down.weight", "lora_down")
    assert (row["starts_idle"], row["idle"], row["norm"]) == (False, True, 0.0)


def test_one_element_is_an_effect(saved: Save) -> None:
    up = np.zeros((4, 2), "f2")
    up[3, 1] = 6e-8

    [row] = effects(saved({"m.lora_up.weight": up, "m.lora_down.weight": np.ones((2, 6), "f2")}))

    assert row["idle"] is False
    assert row["norm"] > 0


def test_every_term_counts(saved: Save) -> None:
    """A difference of a bias is an effect where that of the weight is none."""
    tensors = {"lycoris_m.diff": np.zeros((2, 2), "f4"), "lycoris_m.diff_b": np.ones(2, "f4")}

    [row] = effects(saved(tensors))

    assert row["idle"] is False


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_no_rest(saved: Save, bad: float) -> None:
    tensors = {"base_model.model.m.ia3_l": np.array([1.0, bad, 1.0], "f4")}

    [row] = effects(saved(tensors))

    assert (row["idle"], row["norm"]) == (False, None)


def test_an_empty_tensor_proves_nothing(saved: Save) -> None:
    tensors = {"m.lora_up.weight": np.zeros((0,), "f4"), "m.lora_down.weight": np.ones(2, "f4")}

    [row] = effects(saved(tensors))

    assert row["idle"] is None


NAMES = sorted({name for terms in TERMS.values() for term in terms for name in term})


@given(
    names=st.lists(st.sampled_from([*NAMES, "alpha", "lora_down", "lora_up"]), min_size=1),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_no_shapes_raise(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    """Any tensors of any families under one module, in any shapes: rows, never an exception."""
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    tensors = {f"lycoris_m.{name}": np.full(data.draw(shapes), 0.5, "f4") for name in set(names)}
    save_file(tensors, path)

    for row in effects(open_checkpoint(path)):
        assert row["idle"] in {True, False, None}
