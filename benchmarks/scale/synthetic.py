"""Checkpoints of a long training that nobody trained: their rows as sentinel would have them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from sentinel.health.identity import checkpoint_id
from sentinel.health.rows import CheckpointRow

RUN = "3b0f6f5e-92a5-4c55-8f2b-6a3b6d0f7c11"
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_PLACES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")


def identity_of(number: int) -> str:
    """Return the id of the checkpoint with this number."""
    path = f"checkpoint-{number}"
    return checkpoint_id(run_id=RUN, attempt=1, path=path, members=(), digests={})


def row(number: int, tensors: int) -> CheckpointRow:
    """Return the row of one healthy checkpoint."""
    at = _BEGIN + timedelta(minutes=number)
    return CheckpointRow(
        run_id=RUN,
        attempt=1,
        seq=number,
        checkpoint_id=identity_of(number),
        parent=None,
        path=f"/runs/long/checkpoint-{number}",
        layout="peft",
        trainer="sentinel-train",
        step=100 * number,
        epoch=number / 1000,
        updates_done=100 * number,
        size_bytes=tensors * 200_000,
        tensor_count=tensors,
        dtypes=("BF16",),
        verdict="healthy",
        usable=("weights", "optimizer", "state"),
        reason=None,
        seen_at=at,
        settled_at=at,
        judged_at=at,
        measure_s=0.05,
        settings={
            "precision.adapter": "bf16",
            "optimizer.name": "adamw",
            "optimizer.lr": 1e-4,
            "metrics.loss": 2.0 - number * 1e-6,
        },
    )


class Tensors:
    """The statistics of one adapter, anew for each checkpoint: values nobody can compress."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._random = np.random.default_rng(0)
        modules = [
            f"model.layers.{number // len(_PLACES)}.{_PLACES[number % len(_PLACES)]}"
            for number in range((count + 1) // 2)
        ]
        pairs = [(module, side) for module in modules for side in ("A", "B")][:count]
        self._fixed = {
            "tensor": [f"base_model.model.{module}.lora_{side}.weight" for module, side in pairs],
            "module": [module for module, _ in pairs],
            "role": ["lora_down" if side == "A" else "lora_up" for _, side in pairs],
            "dtype": ["BF16"] * count,
            "shape": [[16, 4096] if side == "A" else [4096, 16] for _, side in pairs],
            "numel": [65536] * count,
            "nan_count": [0] * count,
            "inf_count": [0] * count,
        }

    def table(self) -> pa.Table:
        """Return the table of the next checkpoint."""
        count, normal = self._count, self._random.normal
        text = os.urandom(16 * count).hex()
        values = {name: normal(size=count) for name in ("min", "max", "abs_max", "mean", "l2")}
        counts = {
            name: self._random.integers(0, 100, count) for name in ("zero_count", "subnormal_count")
        }
        digests = [text[at : at + 32] for at in range(0, 32 * count, 32)]
        return pa.table({**self._fixed, **values, **counts, "digest": digests})
