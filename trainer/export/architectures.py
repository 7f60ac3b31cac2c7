"""What an adapter was trained on, and what kohya's tools, diffusers and ComfyUI call it.

Sources: the prefixes in sd-scripts' `networks/lora*.py`, LyCORIS' `wrapper.py`, diffusers'
`loaders/lora_pipeline.py` and ComfyUI's `comfy/lora.py` (`model_lora_keys_unet`, `_clip`); the
modelspec names of sd-scripts' `sai_model_spec.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ..errors import RefusedError
from .adapter import Adapter

Naming = Literal["diffusers", "ldm", "flux", "clip"]

_GENERATIVE_MODELS = "https://github.com/Stability-AI/generative-models"
_FLUX = "https://github.com/black-forest-labs/flux"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One kind of base.

    A prefix is None where the program has no name for it. ``kohya_naming`` and ``comfy_naming``
    say whose module names follow the prefix. ``spec``, ``implementation``, ``pixels`` (the side
    of the square it was trained on) and ``base_version`` go into the metadata.
    """

    title: str
    diffusers: str | None
    kohya: str | None
    comfy: str | None
    spec: str
    base_version: str
    kohya_naming: Naming = "diffusers"
    comfy_naming: Naming = "diffusers"
    kohya_module: str = "networks.lora"
    implementation: str = "diffusers"
    pixels: int | None = None
    plain_up_blocks: frozenset[int] = frozenset({0})


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "sd1": Architecture(
            "the UNet of Stable Diffusion 1",
            diffusers="unet",
            kohya="lora_unet_",
            comfy="diffusion_model.",
            comfy_naming="ldm",
            spec="stable-diffusion-v1",
            base_version="sd_v1",
            pixels=512,
        ),
        "sd2": Architecture(
            "the UNet of Stable Diffusion 2",
            diffusers="unet",
            kohya="lora_unet_",
            comfy="diffusion_model.",
            comfy_naming="ldm",
            spec="stable-diffusion-v2-768-v",
            base_version="sd_v2_v",
            pixels=768,
        ),
        "sdxl": Architecture(
            "the UNet of SDXL",
            diffusers="unet",
            kohya="lora_unet_",
            kohya_naming="ldm",
            comfy="diffusion_model.",
            comfy_naming="ldm",
            spec="stable-diffusion-xl-v1-base",
            base_version="sdxl_base_v1-0",
            implementation=_GENERATIVE_MODELS,
            pixels=1024,
            plain_up_blocks=frozenset(),
        ),
        "flux": Architecture(
            "the transformer of Flux",
            diffusers="transformer",
            kohya="lora_unet_",
            kohya_naming="flux",
            kohya_module="networks.lora_flux",
            comfy="diffusion_model.",
            comfy_naming="flux",
            spec="flux-1",
            base_version="flux1",
            implementation=_FLUX,
            pixels=1024,
        ),
        "transformer": Architecture(
            "a transformer of diffusers other than Flux",
            diffusers="transformer",
            kohya=None,
            comfy="transformer.",
            spec="diffusion-transformer",
            base_version="",
        ),
        "clip": Architecture(
            "CLIP as Stable Diffusion's only text encoder",
            diffusers="text_encoder",
            kohya="lora_te_",
            kohya_naming="clip",
            comfy_naming="clip",
            comfy="text_encoders.clip_l.transformer.",
            spec="stable-diffusion-v1",
            base_version="sd_v1",
            pixels=512,
        ),
        "clip-l": Architecture(
            "CLIP-L as the first of several text encoders",
            diffusers="text_encoder",
            kohya="lora_te1_",
            kohya_naming="clip",
            comfy_naming="clip",
            comfy="text_encoders.clip_l.transformer.",
            spec="stable-diffusion-xl-v1-base",
            base_version="sdxl_base_v1-0",
            pixels=1024,
        ),
        "clip-g": Architecture(
            "CLIP-G as the second text encoder",
            diffusers="text_encoder_2",
            kohya="lora_te2_",
            kohya_naming="clip",
            comfy_naming="clip",
            comfy="text_encoders.clip_g.transformer.",
            spec="stable-diffusion-xl-v1-base",
            base_version="sdxl_base_v1-0",
            pixels=1024,
        ),
        "t5": Architecture(
            "T5-XXL as a text encoder",
            diffusers=None,
            kohya="lora_te3_",
            kohya_module="networks.lora_flux",
            comfy="text_encoders.t5xxl.transformer.",
            spec="flux-1",
            base_version="flux1",
            implementation=_FLUX,
            pixels=1024,
        ),
        "text": Architecture(
            "a language model",
            diffusers=None,
            kohya="lycoris_",
            kohya_module="lycoris.kohya",
            comfy="text_encoders.transformer.",
            spec="language-model",
            base_version="",
            implementation="transformers",
        ),
    }
)

_UNETS: Mapping[int, str] = MappingProxyType({768: "sd1", 1024: "sd2", 2048: "sdxl"})
"""Width of the text that the cross-attention of a UNet takes, which tells the three apart."""
_CLIPS: Mapping[int, str] = MappingProxyType({768: "clip", 1024: "clip", 1280: "clip-g"})


def architecture_of(adapter: Adapter, told: str | None) -> tuple[str, Architecture]:
    """Return what the adapter was trained on: what the user says, else what its names say.

    Raises RefusedError when they do not say.
    """
    name = told or _recognised(adapter)
    if name is None:
        fact = "the names of its modules do not say what it was trained on"
        todo = f"say it with --as ({', '.join(ARCHITECTURES)})"
        raise RefusedError(f"checkpoint '{adapter.path}'", fact, todo)
    return name, ARCHITECTURES[name]


def _recognised(adapter: Adapter) -> str | None:
    """Return the architecture that the modules' names and widths tell."""
    paths = [f".{module.path}" for module in adapter.modules]
    kind = (adapter.config.get("auto_mapping") or {}).get("base_model_class") or ""

    def has(*parts: str) -> bool:
        return any(part in path for path in paths for part in parts)

    found = None
    if has(".down_blocks.", ".up_blocks.", ".mid_block."):
        found = _by_width(adapter, (".attn2.to_k", ".attn2.to_v"), _UNETS)
    elif has(".single_transformer_blocks.") or "Transformer2D" in kind or "Transformer3D" in kind:
        found = "flux" if kind in {"", "FluxTransformer2DModel"} else "transformer"
    elif kind.startswith("CLIPText") or has(".text_model.encoder.layers."):
        found = _by_width(adapter, (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1"), _CLIPS)
    elif has(".encoder.block."):
        found = "t5"
    elif adapter.config.get("task_type") or (has(".layers.") and not has(".encoder.layers.")):
        found = "text"
    return found


def _by_width(adapter: Adapter, endings: tuple[str, ...], widths: Mapping[int, str]) -> str | None:
    for module in adapter.modules:
        if module.path.endswith(endings):
            return widths.get(int(module.down.shape[1]))
    return None
