"""All statistics of a tensor against reading its bytes: a maximum over them as 64-bit words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from files import MIB, values_of
from paired import compare, here
from rows import Row

from sentinel.stats import compiled
from sentinel.stats.moments import Moments, Scratch, moments_of
from sentinel.stats.screen import screen_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRATCH = Scratch()
NAMES = {"bfloat16": "BF16", "float32": "F32", "float16": "F16", "float64": "F64"}


def rows(mib: int, rounds: int) -> Iterator[Row]:
    for name, dtype in NAMES.items():
        data = values_of(name, mib * MIB).view(np.uint8)
        words = data.view(np.uint64)
        found = compare(here(partial(all_of, dtype, data)), here(words.max), rounds=rounds)
        yield Row(
            f"all statistics of {name}, {mib} MiB in memory, 1 core, against reading it",
            found,
            "≥ 0.5",
            f"{mib * MIB / found.first.cpu_s / 1e9:.1f} GB/s, {_way()}",
        )
    yield from _screens(mib, rounds)
    data = values_of("bfloat16", mib * MIB).view(np.uint8)
    halves = np.split(data, 2)
    with ThreadPoolExecutor(2) as pool:
        both = here(lambda: list(pool.map(lambda half: all_of("BF16", half), halves)))
        found = compare(both, here(lambda: all_of("BF16", data)), rounds=rounds)
    yield Row("all statistics of bfloat16, 2 threads against 1", found, "≥ 1.7", "wall time counts")


def _screens(mib: int, rounds: int) -> Iterator[Row]:
    for name, dtype in NAMES.items():
        data = values_of(name, mib * MIB).view(np.uint8)
        words = data.view(np.uint64)
        screened = here(partial(screen_of, dtype, data, _SCRATCH))
        found = compare(screened, here(words.max), rounds=rounds)
        yield Row(
            f"screen of {name} for NaN, Inf and zeros, {mib} MiB in memory, 1 core,"
            " against reading it",
            found,
            "≥ 0.8",
            f"{mib * MIB / found.first.cpu_s / 1e9:.1f} GB/s, {_way()}",
        )


def all_of(dtype: str, data: np.ndarray) -> Moments:
    return moments_of(dtype, data, _SCRATCH)


def _way() -> str:
    return "compiled" if compiled.is_available() else "NumPy: no compiled kernel is installed"
