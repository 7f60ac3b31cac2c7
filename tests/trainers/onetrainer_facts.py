"""What the tests of OneTrainer share: its facts, its configurations whole, its tensors' roles."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laying import facts_of

from sentinel.formats.opening import open_checkpoint

FACTS = facts_of("onetrainer")
SETTINGS: dict[str, Any] = FACTS["accepts"]["settings"]

ROLES = {
    "lora_down.weight": "lora_down",
    "lora_A.weight": "lora_down",
    "lora_up.weight": "lora_up",
    "lora_B.weight": "lora_up",
    "alpha": "alpha",
    "dora_scale": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    **{f"hada_{one}": "adapter" for one in ("w1_a", "w1_b", "w2_a", "w2_b")},
    **{f"lokr_{one}": "adapter" for one in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "oft_R.weight": "adapter",
    "oft_R.scaled_oft": "adapter",
}
"""What OneTrainer's adapters call their tensors, below a module's name."""


def expanded(files: Mapping[str, Any]) -> dict[str, Any]:
    """Files with their configurations whole: the facts keep what differs from the defaults."""
    found = {}
    for name, file in files.items():
        one = dict(file)
        if "over_settings" in one:
            one = {"json": over(SETTINGS, one["over_settings"])}
        config = one.get("metadata", {}).get("ot_config")
        if config:
            whole = over(SETTINGS, config["over_settings"])
            one["metadata"] = {**one["metadata"], "ot_config": json.dumps(whole)}
        found[name] = one
    return found


def over(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration: OneTrainer's defaults with changes, part by part."""
    whole = copy.deepcopy(dict(settings))
    for key, value in changes.items():
        is_part = isinstance(value, dict) and isinstance(whole[key], dict) and whole[key]
        whole[key] = over(whole[key], value) if is_part else value
    return whole


def _split(key: str) -> tuple[str, str]:
    """A key's module, and what is left of it."""
    tail = max((tail for tail in ROLES if key.endswith(f".{tail}")), key=len, default="")
    return (key.removesuffix(f".{tail}"), tail) if tail else ("", key)


def assert_understood(path: Path, file: Mapping[str, Any], member: str) -> None:
    """Every tensor has its role, module, shape and dtype."""
    found = {tensor.name: tensor for tensor in open_checkpoint(path).tensors}
    assert found.keys() == file["tensors"].keys()
    for key, (dtype, shape) in file["tensors"].items():
        module, tail = _split(key)
        tensor = found[key]
        expected = (module, ROLES[tail], dtype, tuple(shape), member)
        got = (tensor.module, tensor.role, tensor.dtype, tensor.shape, tensor.member)
        assert got == expected, key
