"""LoRAs of image models: trained with gradient checkpointing, saved as sd-scripts does."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laying import facts_of

from corpus.diffusers_writing import TARGETS, adapt, layers_of, tiny_unet, unet_loss
from corpus.models import seed_torch, trainable

if TYPE_CHECKING:
    import numpy as np

METADATA: dict[str, str] = facts_of("sd_scripts")["runs"]["lora"]["files"][
    "cat-step00000002.safetensors"
]["metadata"]
"""What `train_network.py` wrote in the header of a save of its own."""


def unet(rng: np.random.Generator, dtype: str = "float32", **options: object) -> Any:
    """A small U-Net under a fresh LoRA, all of it in one dtype."""
    torch = seed_torch(rng)
    model = tiny_unet()
    adapt(model, TARGETS, **options)
    return model.to(getattr(torch, dtype))


def checkpoint_blocks(parts: Iterable[Any]) -> None:
    """Switch on the older kind of gradient checkpointing in these parts.

    The reentrant kind gives no gradient at all to a block none of whose inputs asks for one.
    """
    torch = importlib.import_module("torch")
    function = partial(torch.utils.checkpoint.checkpoint, use_reentrant=True)
    for part in parts:
        for module in part.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = True
                module._gradient_checkpointing_func = function


def adapter(model: Any) -> list[Any]:
    """The parameters of the LoRA, and no others of the model."""
    return [value for name, value in model.named_parameters() if ".lora_" in name]


def learn(model: Any, optimizer: Any = None, *, steps: int = 3, noise: Any = None) -> Any:
    """Make real updates on noise; return the optimizer."""
    torch = importlib.import_module("torch")
    own = torch.optim.AdamW(trainable(model), lr=1e-2) if optimizer is None else optimizer
    loss = unet_loss if noise is None else noise
    model.train()
    for _ in range(steps):
        own.zero_grad()
        loss(model).backward()
        own.step()
    return own


def half_loss(model: Any) -> Any:
    """The loss of one forward pass over noise in half precision, small as a diffusion's is."""
    torch = importlib.import_module("torch")
    dtype = next(model.parameters()).dtype
    context, image = torch.randn(1, 3, 8).to(dtype), torch.randn(1, 4, 8, 8).to(dtype)
    found = model(image, torch.tensor([3]), context, return_dict=False)[0]
    return (found.float() ** 2).mean()


def save(path: Path, model: Any, **metadata: str) -> Path:
    """Save as sd-scripts: its names by diffusers' own conversion, its header, what differs."""
    utils = importlib.import_module("diffusers.utils")
    torch = importlib.import_module("safetensors.torch")
    layers = {f"unet.{key}": value for key, value in layers_of(model).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    converted = utils.convert_state_dict_to_kohya(layers)
    torch.save_file(converted, path, {**METADATA, **metadata})
    return path
