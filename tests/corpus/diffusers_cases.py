"""What diffusers writes: a pipeline's LoRA, its scripts' checkpoints, kohya's keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from corpus import official
from corpus.case import Case, Truth
from corpus.diffusers_writing import (
    FILE,
    STEP,
    TARGETS,
    flux,
    kohya_keys,
    script,
    stable_diffusion,
    whole_script,
)

_BLOCK = "transformer.transformer_blocks.0.attn"
_SINGLE = "transformer.single_transformer_blocks.0.attn"
FLUX_MODULES = frozenset(
    {
        *(f"{_BLOCK}.{name}" for name in TARGETS),
        *(f"{_SINGLE}.{name}" for name in ("to_q", "to_k", "to_v")),
    }
)
FLUX: Mapping[str, Any] = MappingProxyType(
    {
        "layout": "diffusers-lora",
        "trainer": "diffusers",
        "roles": {"lora_up": 7, "lora_down": 7},
        "family": "lora",
        "modules": FLUX_MODULES,
        "pairs": frozenset({(4, 8.0, 2.0)}),
        "idle": False,
        "settings": {"adapter.method": "lora", "adapter.rank": 4, "adapter.alpha": 8.0},
    }
)
"""What holds for the Flux adapter."""

_DOUBT: Mapping[str, Any] = MappingProxyType(
    {"verdict": "suspect", "findings": frozenset({"dead-lora-up"}), "idle": True}
)
_UNTOLD: Mapping[str, Any] = MappingProxyType(
    {"pairs": frozenset({(4, None, 1.0)}), "settings": {}}
)
_SCRIPT: Mapping[str, Any] = MappingProxyType(
    {
        "step": STEP,
        "complete": True,
        "usable": ("weights", "optimizer", "state"),
        "settings": {**FLUX["settings"], "precision.adapter": "fp32"},
    }
)
_BASE: Mapping[str, Any] = MappingProxyType(
    {
        "writer": "diffusers",
        "needs": ("diffusers", "peft"),
        "read": official.in_file(FILE, official.safetensors),
    }
)
_UNET_ATTENTIONS = tuple(
    f"{block}.attentions.{at}.transformer_blocks.0.attn{number}"
    for block, at in (
        ("down_blocks.1", 0),
        ("mid_block", 0),
        ("up_blocks.0", 0),
        ("up_blocks.0", 1),
    )
    for number in (1, 2)
)
UNET_MODULES = frozenset(f"{one}.{name}" for one in _UNET_ATTENTIONS for name in TARGETS)

CASES: tuple[Case, ...] = (
    Case(id="diffusers/flux", write=flux, truth=Truth(**FLUX), **_BASE),
    Case(
        id="diffusers/flux-start",
        write=partial(flux, trained=False),
        truth=Truth(**{**FLUX, **_DOUBT}),
        **_BASE,
    ),
    Case(
        id="diffusers/flux-dora",
        write=partial(flux, use_dora=True),
        truth=Truth(
            **{
                **FLUX,
                "roles": {"lora_up": 7, "lora_down": 7, "magnitude": 7},
                "settings": {"adapter.method": "dora"},
            }
        ),
        **_BASE,
    ),
    Case(
        id="diffusers/flux-untold",
        write=partial(flux, told=False),
        truth=Truth(**{**FLUX, **_UNTOLD}),
        **_BASE,
    ),
    *(
        Case(
            id=f"diffusers/flux-{dtype}",
            write=partial(flux, dtype=dtype),
            truth=Truth(**FLUX),
            **_BASE,
        )
        for dtype in ("float16", "bfloat16")
    ),
    Case(
        id="diffusers/stable-diffusion",
        write=stable_diffusion,
        truth=Truth(
            **{
                **FLUX,
                "roles": {"lora_up": 34, "lora_down": 34},
                "modules": frozenset(
                    {
                        *(f"unet.{name}" for name in UNET_MODULES),
                        *(
                            f"text_encoder.encoder.layers.0.self_attn.{name}"
                            for name in ("q_proj", "v_proj")
                        ),
                    }
                ),
                "pairs": frozenset({(4, 8.0, 2.0), (4, 2.0, 0.5)}),
            }
        ),
        **_BASE,
    ),
    Case(
        id="diffusers/kohya-keys",
        write=kohya_keys,
        truth=Truth(
            layout="kohya",
            roles={"lora_up": 32, "lora_down": 32, "alpha": 32},
            family="lora",
            modules=frozenset(f"lora_unet_{name.replace('.', '_')}" for name in UNET_MODULES),
            pairs=frozenset({(4, 4.0, 1.0)}),
            idle=False,
        ),
        writer="diffusers",
        needs=("diffusers", "peft"),
        read=official.safetensors,
    ),
    Case(
        id="diffusers/script",
        write=script,
        truth=Truth(**{**FLUX, **_SCRIPT, "optimizer_parameters": 14}),
        **_BASE,
    ),
    Case(
        id="diffusers/script-prodigy",
        write=partial(script, optimizer="prodigy"),
        truth=Truth(**{**FLUX, **_SCRIPT, "optimizer_parameters": 14}),
        writer="diffusers",
        needs=("diffusers", "peft", "prodigyopt"),
        read=official.in_file(FILE, official.safetensors),
    ),
    Case(
        id="diffusers/script-whole-model",
        write=whole_script,
        truth=Truth(
            layout="accelerate-state",
            trainer="accelerate",
            complete=True,
            step=STEP,
            roles={"other": 208},
            usable=("weights", "optimizer", "state"),
            optimizer_parameters=208,
        ),
        writer="diffusers",
        needs=("diffusers",),
        read=official.in_file("unet", official.safetensors),
    ),
)
