"""The healthy twin of each failing case: the same training as its user meant it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cases import Case

_RATE = 1.5e-3
"""A rate that trains in set B's healthy runs; the middle of them."""

_ADAFACTOR_RATE = 3e-4
"""The upper end of what is advised for Adafactor without scale_parameter (OneTrainer#455)."""

_MEANT: Mapping[str, Mapping[str, object]] = {
    "trains nothing": {"adapter.dtype": "fp32"},
    "NaN": {"adapter.dtype": "fp32"},
    "updates vanish": {"adapter.dtype": "fp32"},
    "diverges": {"training.learning_rate": _RATE},
    "Adafactor scale": {
        "training.learning_rate": _ADAFACTOR_RATE,
        "training.optimizer.args": {"scale_parameter": False},
    },
    "Prodigy stuck": {"training.learning_rate": 1.0},
    "rate far too low": {"training.learning_rate": _RATE},
}


def twin_of(case: Case) -> Case:
    """Return the training with what its fault class got wrong put right, and nothing else."""
    settings = {**case.settings, **_MEANT[case.fault or ""]}
    if case.fault == "trains nothing" and settings["training.optimizer.name"] == "adafactor":
        settings |= _MEANT["Adafactor scale"]
    return replace(case, name=f"{case.name} twin", fault=None, settings=settings)
