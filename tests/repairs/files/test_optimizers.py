"""The moments of every kind of optimizer: cast as torch would on loading, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.errors import RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.trainer

SHAPES = [(8, 16), (16, 8), (32,)]
Make = Callable[[list[Any]], Any]


def of_torch(name: str, **options: Any) -> Make:
    return lambda parameters: getattr(torch.optim, name)(parameters, lr=1e-3, **options)


def of_library(module: str, name: str, **options: Any) -> Make:
    return lambda parameters: getattr(pytest.importorskip(module), name)(parameters, **options)


PLAIN: dict[str, Make] = {
    **{
        name: of_torch(name)
        for name in ("AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "Adafactor")
    },
    "amsgrad": of_torch("AdamW", amsgrad=True),
    "momentum": of_torch("SGD", momentum=0.9),
    "Transformers' Adafactor": of_library(
        "transformers", "Adafactor", lr=1e-3, relative_step=False, beta1=0.9
    ),
    "Prodigy": of_library("prodigyopt", "Prodigy"),
    "Lion": of_library("lion_pytorch", "Lion"),
    "schedule-free": of_library("schedulefree", "AdamWScheduleFree"),
}
PACKED: dict[str, Make] = {
    "AdamW8bit": of_library("bitsandbytes.optim", "AdamW8bit", min_8bit_size=16),
    "AdamW32bit": of_library("bitsandbytes.optim", "PagedAdamW32bit"),
}


def parameters(dtype: Any = None) -> list[Any]:
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in SHAPES]
    return [torch.nn.Parameter(value.to(dtype or torch.float32)) for value in values]


def stepped(make: Make) -> dict[str, Any]:
    """The state after three steps."""
    given = parameters()
    optimizer = make(given)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(3):
        for parameter in given:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """A `checkpoint-3` with some optimizer's state."""

    def write(state: dict[str, Any]) -> Path:
        path = tmp_path / "out" / "checkpoint-3"
        path.mkdir(parents=True)
        key = "base_model.model.q"
        weights = {f"{key}.lora_A.weight": np.ones((2, 4), "f4")}
        save_file(weights | {f"{key}.lora_B.weight": np.ones((4, 2), "f4")}, path / NAME)
        (path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2}')
        (path / "trainer_state.json").write_text(json.dumps({"global_step": 3, "log_history": []}))
        torch.save(state, path / "optimizer.pt")
        return path

    return write


NAME = "adapter_model.safetensors"


def flat(value: Any, at: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in flat(one, f"{at}.{key}").items()}
    return {at: value}


@pytest.mark.parametrize("name", PLAIN)
def test_moments_come_out_as_torch_loads_them(checkpoint, name):
    """An optimizer of bf16 parameters has the same state from the original as from the copy; what
    torch does not cast (the count of steps, settings) is as it was.
    """
    state = stepped(PLAIN[name])
    path = checkpoint(state)

    receipt = prepare_copy(open_checkpoint(path), cast="bf16", optimizer="cast", allow_loss=True)

    new = torch.load(receipt.plan.target / "optimizer.pt", weights_only=True)
    assert flat(new["param_groups"]) == flat(state["param_groups"])
    assert any(change.part == "optimizer" for change in receipt.plan.dtypes)
    optimizers = []
    for given in (state, new):
        optimizer = PLAIN[name](parameters(torch.bfloat16))
        optimizer.load_state_dict(given)
        optimizers.append(flat(optimizer.state_dict()["state"]))
    before, after = optimizers
    assert before.keys() == after.keys()
    for key, value in before.items():
        if torch.is_tensor(value):
            assert (after[key].dtype, after[key].shape) == (value.dtype, value.shape), key
            assert torch.equal(after[key], value), key
        else:
            assert after[key] == value, key


@pytest.mark.parametrize("name", PACKED)
def test_packed_moments_are_refused_and_kept_bit_for_bit(checkpoint, name):
    """Codes with scales of their own, and bitsandbytes' states, which its kernels read as F32."""
    path = checkpoint(stepped(PACKED[name]))

    with pytest.raises(RepairError, match="cannot be cast"):
        prepare_copy(open_checkpoint(path), cast="bf16", optimizer="cast")

    receipt = prepare_copy(open_checkpoint(path), cast="bf16", optimizer="keep")
    copied = receipt.plan.target / "optimizer.pt"
    assert copied.read_bytes() == (path / "optimizer.pt").read_bytes()
