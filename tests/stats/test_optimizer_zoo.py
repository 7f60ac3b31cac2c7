"""Every optimizer that trainers offer, made and stepped by its own library, held against torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.flow import judge
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.load import load_rules
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")

RULES = load_rules()
STEPS = 3
KEY = "base_model.model.layers.0.q_proj"

PLAIN = ("AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Adafactor")
PACKED = ("AdamW8bit", "PagedAdamW8bit", "Lion8bit", "AdEMAMix8bit", "LAMB8bit", "RMSprop8bit")


def of_torch(name: str, **options: Any) -> Callable[[list[Any]], Any]:
    return lambda parameters: getattr(torch.optim, name)(parameters, lr=1e-3, **options)


def of_library(module: str, name: str, **options: Any) -> Callable[[list[Any]], Any]:
    def make(parameters: list[Any]) -> Any:
        return getattr(pytest.importorskip(module), name)(parameters, **options)

    return make


ZOO: dict[str, Callable[[list[Any]], Any]] = {
    **{name: of_torch(name) for name in PLAIN},
    "AdamW with amsgrad": of_torch("AdamW", amsgrad=True),
    "SGD with momentum": of_torch("SGD", momentum=0.9),
    "Transformers' Adafactor": of_library(
        "transformers", "Adafactor", lr=1e-3, relative_step=False, beta1=0.9
    ),
    "Prodigy": of_library("prodigyopt", "Prodigy"),
    "Prodigy in slices": of_library("prodigyopt", "Prodigy", slice_p=4),
    "ProdigyPlusScheduleFree": of_library(
        "prodigyplus.prodigy_plus_schedulefree", "ProdigyPlusScheduleFree", split_groups=False
    ),
    "AdamWScheduleFree": of_library("schedulefree", "AdamWScheduleFree"),
    "SGDScheduleFree": of_library("schedulefree", "SGDScheduleFree"),
    "Lion": of_library("lion_pytorch", "Lion"),
    **{
        f"bitsandbytes {name}": of_library("bitsandbytes.optim", name, min_8bit_size=16)
        for name in PACKED
    },
    "bitsandbytes AdamW in 32 bits": of_library("bitsandbytes.optim", "PagedAdamW32bit"),
    **{
        f"torchao {name}": of_library("torchao.optim", name)
        for name in ("AdamW8bit", "AdamW4bit", "AdamWFp8")
    },
}

FACTORED = {"Adafactor"}
COUNTS_NO_STEPS = {"SGD with momentum", "Lion"}


def stepped(make: Callable[[list[Any]], Any]) -> Any:
    """An optimizer of two matrices, large enough to be packed, after some steps."""
    draw = torch.Generator().manual_seed(0)
    parameters = [
        torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in [(4, 2048), (2048, 4)]
    ]
    optimizer = make(parameters)
    if hasattr(optimizer, "train"):
        optimizer.train()
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = 1e-2 * torch.randn(parameter.shape, generator=draw)
        # torchao compiles its step, which takes longer than everything else here.
        with torch.compiler.set_stance("force_eager"):
            optimizer.step()
    return optimizer


def saved(path: Path, state: object) -> Path:
    """A `checkpoint-N` of Transformers' Trainer around an optimizer's state."""
    down, up = np.full((4, 16), 0.01, "f4"), np.full((16, 4), 0.01, "f4")
    tensors = {f"{KEY}.lora_A.weight": down, f"{KEY}.lora_B.weight": up}
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    torch.save(state, path / "optimizer.pt")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": STEPS, "log_history": []}))
    return path


def leaves(value: object) -> Iterator[Any]:
    """Every tensor and number in a state as torch has it, those inside a packed one apart."""
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    elif isinstance(value, int | float):
        yield torch.tensor(value)
    elif isinstance(value, torch.Tensor):
        names = value.__tensor_flatten__()[0] if hasattr(value, "__tensor_flatten__") else []
        if names:
            yield from (getattr(value, name) for name in names)
        else:
            yield value


@pytest.mark.parametrize("name", ZOO)
def test_the_state_is_what_torch_loads(tmp_path: Path, name: str) -> None:
    """Steps, groups and the count of values are those of the loaded state; nothing is opaque."""
    optimizer = stepped(ZOO[name])
    state = optimizer.state_dict()
    path = saved(tmp_path / "checkpoint-3", state)

    checkpoint = open_checkpoint(path)
    measured = measure(checkpoint, digest=False)

    assert checkpoint.faults == ()
    assert checkpoint.optimizer is not None
    assert checkpoint.optimizer.opaque_count == 0
    assert measured.optimizer is not None
    assert measured.optimizer_groups is not None
    rows = measured.optimizer.to_pylist()
    expected = None if name in COUNTS_NO_STEPS else STEPS
    assert [row["step"] for row in rows] == [expected, expected]
    for row, kept in zip(rows, state["state"].values(), strict=True):
        assert row["value_count"] == sum(one.numel() for one in leaves(kept))
        assert (row["nan_count"], row["inf_count"]) == (0, 0)
    if name not in FACTORED:
        assert [row["numel"] for row in rows] == [4 * 2048, 4 * 2048]
    (group,) = measured.optimizer_groups.to_pylist()
    (real,) = state["param_groups"]
    assert group["lr"] == pytest.approx(float(real["lr"]))
    assert group["weight_decay"] == pytest.approx(real["weight_decay"])
    betas = [*(real.get("betas") or ()), None, None]
    if name != "Transformers' Adafactor":
        assert (group["beta1"], group["beta2"]) == (betas[0], betas[1])
    assert group["d"] == (pytest.approx(float(real["d"])) if "d0" in real else None)
    assert judge(path, rules=RULES).verdict.usable == ("weights", "optimizer", "state")


@pytest.mark.parametrize("name", ZOO)
def test_a_nan_is_found_wherever_it_lies(tmp_path: Path, name: str) -> None:
    """In every floating tensor of the first parameter's state in turn, packed ones included."""
    state = stepped(ZOO[name]).state_dict()
    first = next(iter(state["state"].values()))
    floats = [one for one in leaves(first) if one.is_floating_point()]
    others = [one.data_ptr() for kept in list(state["state"].values())[1:] for one in leaves(kept)]
    assert floats
    for number, tensor in enumerate(floats):
        flat = tensor.view(-1)
        kept = flat[0].clone()
        flat[0] = math.nan
        path = saved(tmp_path / f"checkpoint-{number}", state)
        flat[0] = kept

        measured = measure(open_checkpoint(path), digest=False)

        assert measured.optimizer is not None
        # bitsandbytes' parameters share their maps.
        also = int(tensor.data_ptr() in others)
        assert [row["nan_count"] for row in measured.optimizer.to_pylist()] == [1, also]
    findings = judge(path, rules=RULES).verdict.findings
    assert "optimizer-nan" in {finding.rule for finding in findings}


def test_a_rate_that_is_nan_is_told(tmp_path: Path) -> None:
    """Prodigy multiplies every update with the `d` of its group; Inf is its normal limit."""
    state = stepped(ZOO["Prodigy"]).state_dict()
    assert math.isinf(state["param_groups"][0]["growth_rate"])
    state["param_groups"][0]["d"] = math.nan

    verdict = judge(saved(tmp_path / "checkpoint-3", state), rules=RULES).verdict

    assert [finding.rule for finding in verdict.findings] == ["optimizer-settings-nan"]
    assert verdict.usable == ("weights", "state")


def test_torchs_adafactor_has_a_threshold_under_prodigys_name(tmp_path: Path) -> None:
    state = stepped(ZOO["Adafactor"]).state_dict()
    assert state["param_groups"][0]["d"] == 1.0

    measured = measure(open_checkpoint(saved(tmp_path / "checkpoint-3", state)), digest=False)

    assert measured.optimizer_groups is not None
    assert measured.optimizer_groups["d"].to_pylist() == [None]


class Packed(torch.Tensor):  # type: ignore[misc]
    """A tensor around others that nobody here knows."""

    codes: Any

    @staticmethod
    def __new__(cls, codes: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes: Any) -> None:
        self.codes = codes

    @classmethod
    def __torch_dispatch__(cls, *_call: Any) -> Any:
        raise NotImplementedError


def test_an_unknown_packing_is_opaque_and_not_healthy(tmp_path: Path) -> None:
    """Its codes are numbers, but what they mean nobody can say."""
    state = stepped(ZOO["AdamW"]).state_dict()
    state["state"][0]["exp_avg"] = Packed(torch.zeros(4, dtype=torch.uint8))

    path = saved(tmp_path / "checkpoint-3", state)

    checkpoint = open_checkpoint(path)
    assert checkpoint.optimizer is not None
    assert checkpoint.optimizer.opaque_count == 1
    assert judge(path, rules=RULES).verdict.usable == ("weights", "state")
