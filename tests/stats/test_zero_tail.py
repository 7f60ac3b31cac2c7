"""Files zeroed from some byte on are told from tensors and rows that are zero for other reasons."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.flow import inspect, judge
from sentinel.rules.load import load_rules

RULE = "zero-filled-tail"


def adapter(**changed: np.ndarray) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    tensors = {}
    for name in "abcd":
        tensors[f"lora_unet_{name}.lora_down.weight"] = draw.normal(size=(8, 64)).astype("f4")
        tensors[f"lora_unet_{name}.lora_up.weight"] = draw.normal(size=(64, 8)).astype("f4")
    return tensors | {f"lora_unet_d.lora_{side}.weight": value for side, value in changed.items()}


def faults(path) -> list[str]:
    return [fault.rule for fault in inspect(path).checkpoint.faults]


@pytest.mark.parametrize("lost", [1028, 2020, 3000, 5004, 9000])
def test_a_file_zeroed_from_some_byte_on_is_told(tmp_path, lost):
    """Wherever the zeros begin, inside the last tensor or before it."""
    path = tmp_path / "cat.safetensors"
    save_file(adapter(), path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-lost] + bytes(lost))

    judgement = judge(path, rules=load_rules())

    (finding,) = [one for one in judgement.verdict.findings if one.rule == RULE]
    assert f"is zero from byte {len(raw) - lost}" in finding.message
    assert (judgement.verdict.level, finding.safety) == ("faulty", "likely")


def test_a_tear_between_rows_is_told_at_a_page(tmp_path):
    """Rows of a small rank are so short that every page begins with one."""
    draw = np.random.default_rng(0)
    tensors = {"lora_unet_a.lora_up.weight": draw.normal(size=(4096, 2)).astype("f4")}
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path)
    raw = path.read_bytes()
    path.write_bytes(raw[:8192].ljust(len(raw), b"\0"))

    assert faults(path) == [RULE]


def grown(rows: int) -> np.ndarray:
    up = np.random.default_rng(1).normal(size=(64, 8)).astype("f4")
    up[rows:] = 0
    return up


@pytest.mark.parametrize(
    "tensors",
    [
        adapter(),
        adapter(up=np.zeros((64, 8), "f4")),
        adapter(up=grown(16)),
        adapter(
            up=np.random.default_rng(2).normal(size=(64, 8)).astype("f4") * ([1] * 4 + [0] * 4)
        ),
        adapter(down=np.zeros((8, 64)), up=np.zeros((64, 8)))
        | {
            "lora_unet_c.lora_up.weight": np.random.default_rng(2).normal(size=(64, 8))
            * ([1] * 4 + [0] * 4)
        },
        {f"{name}.weight": np.zeros((64, 64), "f4") for name in "ab"},
        {"a.weight": np.ones((64, 64), "f4"), "b.bias": np.zeros(4096, "f4")},
    ],
    ids=[
        "trained",
        "up zero",
        "rows of up zero",
        "half the rank",
        "modules pruned",
        "all zero",
        "bias zero",
    ],
)
def test_zeros_by_design_are_no_torn_write(tmp_path, tensors):
    """An up side at its start, padded rows or ranks, biases: none is a lost end."""
    path = tmp_path / "cat.safetensors"
    save_file({name: value.astype("f4") for name, value in tensors.items()}, path)

    assert RULE not in faults(path)


def test_a_few_zeros_are_chance(tmp_path):
    """Less than a sector is not lost by a disk."""
    tensors = adapter()
    tensors["lora_unet_d.lora_up.weight"].reshape(-1)[-20:] = 0
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path)

    assert faults(path) == []
