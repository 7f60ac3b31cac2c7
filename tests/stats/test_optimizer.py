"""Optimizer state as the real optimizers save it, measured and held against torch itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentinel.flow import judge
from sentinel.formats.opening import open_checkpoint
from sentinel.rules.load import load_rules
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")

RULES = tuple(
    rule for rule in load_rules() if "optimizer" in (rule.table or "") or "adam" in rule.id
)
KEY = "base_model.model.layers.0.q_proj"


def parameters(dtype: Any = None, *, size: int = 16) -> list[Any]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(4, size), (size, 4)]
    return [
        torch.nn.Parameter(torch.randn(shape, generator=draw).to(dtype or torch.float32))
        for shape in shapes
    ]


def stepped(optimizer: Any, *, gradient: float = 1e-2, steps: int = 3) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for group in optimizer.param_groups:
            for one in group["params"]:
                one.grad = (gradient * torch.randn(one.shape, generator=draw)).to(one.dtype)
        optimizer.step()
    return optimizer.state_dict()


def saved(path: Path, state: object, *, name: str = "optimizer.pt", **options: Any) -> Path:
    """A `checkpoint-N` of Transformers' Trainer around an optimizer's state."""
    from safetensors.numpy import save_file  # noqa: PLC0415

    one, other = (p.detach().float().numpy() for p in parameters())
    tensors = {f"{KEY}.lora_A.weight": one, f"{KEY}.lora_B.weight": other}
    path.mkdir()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    torch.save(state, path / name, **options)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 3, "log_history": []}))
    return path


def rows(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    checkpoint = open_checkpoint(path)
    assert checkpoint.faults == ()
    measured = measure(checkpoint, digest=False)
    assert measured.optimizer is not None
    assert measured.optimizer_groups is not None
    return measured.optimizer.to_pylist(), measured.optimizer_groups.to_pylist()


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("name", ["optimizer.pt", "optimizer.bin"])
def test_adam_is_read_in_both_formats(tmp_path, as_zip, name):
    state = stepped(torch.optim.AdamW(parameters(), lr=3e-4, weight_decay=0.1))
    path = saved(tmp_path / "checkpoint-3", state, name=name, _use_new_zipfile_serialization=as_zip)

    found, (group,) = rows(path)

    assert [(one["tensor"], one["step"], one["dtype"], one["numel"]) for one in found] == [
        ("parameter 0", 3.0, "F32", 64),
        ("parameter 1", 3.0, "F32", 64),
    ]
    assert {(one["nan_count"], one["inf_count"], one["vanished_count"]) for one in found} == {
        (0, 0, 0)
    }
    assert (group["lr"], group["eps"], group["beta1"], group["beta2"]) == (3e-4, 1e-8, 0.9, 0.999)
    assert (group["weight_decay"], group["parameter_count"], group["d"]) == (0.1, 2, None)


def test_names_are_kept_where_the_optimizer_knows_them(tmp_path):
    named = list(zip(["q.lora_A", "q.lora_B"], parameters(), strict=True))
    path = saved(tmp_path / "checkpoint-3", stepped(torch.optim.AdamW(named)))
    assert [one["tensor"] for one in rows(path)[0]] == ["q.lora_A", "q.lora_B"]


def test_a_vanished_second_moment_is_counted_as_torch_counts_it(tmp_path):
    """In fp16 the square of 1e-4 is below what the format holds: the next update divides by 0."""
    state = stepped(torch.optim.AdamW(parameters(torch.float16)), gradient=1e-4, steps=1)
    path = saved(tmp_path / "checkpoint-3", state)

    found, _ = rows(path)

    for one, kept in zip(found, state["state"].values(), strict=True):
        first, second = kept["exp_avg"], kept["exp_avg_sq"]
        assert one["vanished_count"] == int(((second == 0) & (first != 0)).sum())
        assert one["vanished_share"] > 0.05
        assert one["dtype"] == "F16"
    verdict = judge(path, rules=RULES).verdict
    assert [finding.rule for finding in verdict.findings] == ["fp16-adam-about-to-die"]
    assert verdict.findings[0].parts == ("optimizer",)
    assert verdict.usable == ("weights", "optimizer", "state")


def test_the_healthy_twin_in_fp32_is_quiet(tmp_path):
    state = stepped(torch.optim.AdamW(parameters()), gradient=1e-4, steps=1)
    verdict = judge(saved(tmp_path / "checkpoint-3", state), rules=RULES).verdict
    assert (verdict.level, verdict.usable) == ("healthy", ("weights", "optimizer", "state"))


def test_nan_in_a_moment_makes_the_optimizer_unusable_and_not_the_weights(tmp_path):
    state = stepped(torch.optim.AdamW(parameters()))
    state["state"][1]["exp_avg_sq"][0, 0] = float("nan")
    state["state"][1]["exp_avg"][1, 1] = float("inf")

    verdict = judge(saved(tmp_path / "checkpoint-3", state), rules=RULES).verdict

    assert (verdict.level, verdict.usable) == ("faulty", ("weights", "state"))
    (finding,) = verdict.findings
    assert (finding.rule, finding.tensors) == ("optimizer-nan", ("parameter 1",))
    assert "2 values in all" in finding.message


def test_a_torn_optimizer_leaves_the_weights_usable(tmp_path):
    path = saved(tmp_path / "checkpoint-3", stepped(torch.optim.AdamW(parameters())))
    whole = (path / "optimizer.pt").read_bytes()
    (path / "optimizer.pt").write_bytes(whole[: len(whole) // 2])

    verdict = judge(path, rules=load_rules()).verdict

    assert (verdict.level, verdict.usable) == ("unreadable", ("weights", "state"))


def test_a_hostile_optimizer_is_unsafe(tmp_path):
    class Attack:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "canary",))

    path = saved(tmp_path / "checkpoint-3", {"state": {}, "param_groups": [], "x": Attack()})

    verdict = judge(path, rules=load_rules()).verdict

    assert verdict.level == "unreadable"
    assert "unsafe-pickle" in {finding.rule for finding in verdict.findings}
    assert not (tmp_path / "canary").exists()


def test_adafactor_tells_its_switches_and_sizes(tmp_path):
    transformers = pytest.importorskip("transformers")
    made = transformers.Adafactor(
        parameters(), lr=None, scale_parameter=True, relative_step=True, warmup_init=True
    )
    state = stepped(made)

    found, (group,) = rows(saved(tmp_path / "checkpoint-3", state))

    assert [one["rms"] for one in found] == pytest.approx(
        [float(kept["RMS"]) for kept in state["state"].values()]
    )
    assert {one["vanished_count"] for one in found} == {None}
    assert (group["scale_parameter"], group["relative_step"], group["warmup_init"]) == (True,) * 3
    assert (group["eps"], group["eps2"]) == (1e-30, 1e-3)


def test_prodigy_may_grow_without_limit(tmp_path):
    """Its growth_rate is Inf by default, which is no fault."""
    prodigyopt = pytest.importorskip("prodigyopt")
    state = stepped(prodigyopt.Prodigy(parameters(), d0=1e-6))
    assert state["param_groups"][0]["growth_rate"] == float("inf")
    path = saved(tmp_path / "checkpoint-3", state)

    found, (group,) = rows(path)

    assert {one["inf_count"] for one in found} == {0}
    assert group["d0"] == 1e-6
    assert group["d"] == pytest.approx(float(state["param_groups"][0]["d"]))
    assert judge(path, rules=RULES).verdict.level == "healthy"


def test_eight_bit_blocks_are_opened(tmp_path):
    """bitsandbytes keeps codes, a map and a size a block; NaN can lie in the sizes only."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    made = bitsandbytes.optim.AdamW8bit(parameters(size=2048), min_8bit_size=16)
    state = stepped(made)
    found, _ = rows(saved(tmp_path / "checkpoint-3", state))
    assert {(one["dtype"], one["step"], one["nan_count"]) for one in found} == {("U8", 3.0, 0)}
    assert {one["vanished_count"] for one in found} == {None}

    state["state"][0]["__bnb_optimizer_quant_state__"]["absmax2"][0] = float("nan")
    broken, _ = rows(saved(tmp_path / "checkpoint-4", state))
    assert [one["nan_count"] for one in broken] == [1, 0]


def test_bitsandbytes_in_32_bits_has_both_moments(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    state = stepped(bitsandbytes.optim.AdamW8bit(parameters()))
    found, _ = rows(saved(tmp_path / "checkpoint-3", state))
    assert {(one["dtype"], one["vanished_count"]) for one in found} == {("F32", 0)}


def test_a_state_of_another_form_is_unknown(tmp_path):
    """Neither a fault nor usable: nobody looked into it."""
    path = saved(tmp_path / "checkpoint-3", {"something": [1, 2]})
    checkpoint = open_checkpoint(path)
    assert (checkpoint.optimizer, checkpoint.faults) == (None, ())
    verdict = judge(path, rules=RULES).verdict
    assert verdict.usable == ("weights", "state")
    assert {one.rule for one in verdict.not_evaluated} >= {"optimizer-nan"}


def test_blocks_of_moments_stay_in_step(tmp_path):
    """Tensors longer than a block are compared element by element, also in two dtypes."""
    size = 100_003
    first, second = torch.ones(size), torch.ones(size, dtype=torch.float16)
    second[::7] = 0
    first[::14] = 0
    state = {"state": {0: {"exp_avg": first, "exp_avg_sq": second}}, "param_groups": []}

    (found,), groups = rows(saved(tmp_path / "checkpoint-3", state))

    assert found["vanished_count"] == int(((second == 0) & (first != 0)).sum())
    assert (found["value_count"], groups) == (2 * size, [])


def test_a_matrix_in_another_order_is_measured_and_not_multiplied(tmp_path):
    """Counts and sizes do not depend on the order of elements; the product of two matrices does."""
    down, up = (one.detach() for one in parameters())
    tensors = {f"{KEY}.lora_A.weight": down.T.contiguous().T, f"{KEY}.lora_B.weight": up}
    torch.save(tensors, tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))

    measured = measure(open_checkpoint(tmp_path), digest=False)

    (pair,) = measured.pairs.to_pylist()
    assert pair["down_l2"] == pytest.approx(float(down.norm()))
    assert pair["norm"] is None
