"""What others compute to say the same, on the same values in memory, on one thread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from files import MIB, values_of
from kernel import all_of
from paired import compare, here
from rows import Row

try:
    import torch
except ImportError:
    torch = None

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows(mib: int, rounds: int) -> Iterator[Row]:
    if torch is None:
        return
    torch.set_num_threads(1)
    data = values_of("bfloat16", mib * MIB)
    tensor = torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)

    def naive() -> None:
        torch.isnan(tensor).sum()
        torch.isinf(tensor).sum()
        (tensor == 0).sum()
        tensor.abs().max()
        torch.linalg.vector_norm(tensor)

    def means() -> None:
        # What sd-scripts' check of a LoRA prints of each tensor: mean and least magnitude.
        torch.mean(torch.abs(tensor))
        torch.min(torch.abs(tensor))

    ours = here(lambda: all_of("BF16", data.view(np.uint8)))
    ways = (
        ("isnan, isinf, == 0, abs max and norm by torch", naive, "≥ 50"),
        ("torch.aminmax alone", lambda: torch.aminmax(tensor), "≥ 1"),
        ("mean and least magnitude by torch, as sd-scripts' check", means, "≥ 50"),
    )
    for name, way, goal in ways:
        found = compare(ours, here(way), rounds=rounds)
        yield Row(f"all statistics of bfloat16, {mib} MiB, against {name}", found, goal)
    yield _lists(data[: data.size // 16], rounds)


def _lists(data: np.ndarray, rounds: int) -> Row:
    """lora-inspector's way: every value a float of Python, its magnitude and its square added."""
    tensor = torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)

    def listed() -> float:
        values = torch.flatten(tensor).tolist()
        strength, magnitude = 0.0, 0.0
        for value in values:
            strength += abs(value)
        for value in values:
            magnitude += pow(value, 2)
        return strength / len(values) + math.sqrt(magnitude)

    found = compare(here(lambda: all_of("BF16", data.view(np.uint8))), here(listed), rounds=rounds)
    what = f"all statistics of bfloat16, {data.nbytes >> 20} MiB, against sums of magnitudes and"
    return Row(f"{what} squares in Python, as lora-inspector", found, "≥ 50")
