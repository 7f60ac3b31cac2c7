"""Which files make a checkpoint: one module a layout, the most specific first."""

from __future__ import annotations

from sentinel.formats.layouts import (
    kohya,
    peft,
    plain,
    sentinel_train,
    transformers_model,
    transformers_trainer,
)
from sentinel.formats.layouts.base import Layout

LAYOUTS: tuple[Layout, ...] = (
    sentinel_train,
    transformers_trainer,
    peft,
    transformers_model,
    kohya,
    plain,
)
"""In the order they are asked; `plain` takes every safetensors file that nobody else knows."""
