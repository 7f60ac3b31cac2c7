"""What must hold for every file a trainer wrote, worked out from the facts by other means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sentinel.checkpoint import Checkpoint
from sentinel.stats.measure import measure

_ENDS: Mapping[str, tuple[str, str]] = {
    ".lora_down.weight": ("lora_down", "lora"),
    ".lora_up.weight": ("lora_up", "lora"),
    ".lora_A.weight": ("lora_down", "lora"),
    ".lora_B.weight": ("lora_up", "lora"),
    ".magnitude": ("magnitude", "lora"),
    ".alpha": ("alpha", ""),
    ".oft_blocks": ("adapter", "oft"),
    **{f".oft_blocks.{at}": ("adapter", "oft") for at in range(4)},
    **{f".hada_w{at}_{side}": ("adapter", "loha") for at in (1, 2) for side in "ab"},
    ".lokr_w1": ("adapter", "lokr"),
    ".lokr_w2": ("adapter", "lokr"),
    ".lokr_w2_a": ("adapter", "lokr"),
    ".lokr_w2_b": ("adapter", "lokr"),
    ".diff": ("adapter", "full"),
    ".diff_b": ("adapter", "full"),
}


def filled(key: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values that tell the tensors of a module apart: alphas 3, everything else small."""
    del dtype
    return np.full(shape, 3.0 if key.endswith(".alpha") else 0.25, "f4")


def tensors_hold(
    checkpoint: Checkpoint, tensors: Mapping[str, Any], zero: Iterable[str] | None
) -> None:
    """Hold every tensor's name, dtype, shape, role, module, family and zero side.

    ``zero`` are the tensors that were all zero when the trainer began; None where it went on with
    others' weights.
    """
    assert {one.name: [one.dtype, list(one.shape)] for one in checkpoint.tensors} == tensors
    begun_at_zero = None if zero is None else set(zero) & set(tensors)
    for one in checkpoint.tensors:
        end = next(end for end in sorted(_ENDS, key=len, reverse=True) if one.name.endswith(end))
        role, family = _ENDS[end]
        assert (one.role, one.module) == (role, one.name.removesuffix(end))
        assert not family or one.family == family
        assert begun_at_zero is None or one.zero_at_init == (one.name in begun_at_zero), one.name


def pairs_hold(checkpoint: Checkpoint, tensors: Mapping[str, Any]) -> None:
    """Hold rank, alpha and scale of every module with an up and a down matrix."""
    rows = {row["module"]: row for row in measure(checkpoint, digest=False).pairs.to_pylist()}
    expected = {}
    for key, (_dtype, shape) in tensors.items():
        for down, up in (("lora_down", "lora_up"), ("lora_A", "lora_B")):
            end = f".{down}.weight"
            if key.endswith(end) and key.replace(down, up) in tensors:
                module = key.removesuffix(end)
                alpha = 3.0 if f"{module}.alpha" in tensors else None
                expected[module] = (shape[0], alpha, 1.0 if alpha is None else alpha / shape[0])
    assert {name: (r["rank"], r["alpha"], r["scale"]) for name, r in rows.items()} == expected
    assert all(math.isfinite(row["norm"]) for row in rows.values())


def options_of(words: str) -> dict[str, Any]:
    """Return the options a command gives, the last of each: a word, or several as a list."""
    found: dict[str, list[str]] = {}
    for word in words.split():
        if word.startswith("--"):
            found[word] = []
            last = word
        else:
            found[last].append(word)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def directories(files: Mapping[str, Any], suffix: str) -> dict[str, dict[str, Any]]:
    """Return the files of each directory whose name ends so, by directory."""
    found: dict[str, dict[str, Any]] = {}
    for name, facts in files.items():
        parent = str(Path(name).parent)
        if parent.endswith(suffix):
            found.setdefault(parent, {})[Path(name).name] = facts
    return found
