"""Which files make a checkpoint: one module a layout, the most specific first."""

from __future__ import annotations

from sentinel.formats.layouts import (
    accelerate_state,
    ai_toolkit,
    dcp,
    deepspeed,
    diffusers_lora,
    gguf,
    gguf_lora,
    kohya,
    lightning,
    onetrainer_backup,
    onetrainer_save,
    peft,
    plain,
    sd_scripts_state,
    sentinel_train,
    simpletuner,
    transformers_model,
    transformers_trainer,
)
from sentinel.formats.layouts.base import Layout

LAYOUTS: tuple[Layout, ...] = (
    sentinel_train,
    onetrainer_backup,
    simpletuner,
    sd_scripts_state,
    onetrainer_save,
    ai_toolkit,
    diffusers_lora,
    transformers_trainer,
    accelerate_state,
    deepspeed,
    lightning,
    dcp,
    peft,
    transformers_model,
    kohya,
    gguf_lora,
    gguf,
    plain,
)
"""In the order they are asked; `plain` takes every safetensors file that nobody else knows."""
