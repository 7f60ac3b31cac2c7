"""OneTrainer's models at toy size, and the batches its trainer is fed with.

Only what would need a download or a data set is replaced: how the base model is read, and the
data loader. Adapters, set-up, optimizer, training loop and savers are OneTrainer's own.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, FluxTransformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENS = 8
WIDTH = 16


def fill_stable_diffusion(model: Any, scratch: Path) -> None:
    """Give a `StableDiffusionModel` its parts: four levels, as the key conversions expect."""
    torch.manual_seed(0)
    cross = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    model.unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        down_block_types=cross,
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        sample_size=8,
    )
    model.text_encoder = CLIPTextModel(_text_config())
    model.vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=2, latent_channels=4)
    model.noise_scheduler = DDIMScheduler()
    model.tokenizer = tokenizer(scratch)
    model.orig_tokenizer = model.tokenizer
    model.sd_config = {}


def fill_stable_diffusion_xl(model: Any, scratch: Path) -> None:
    """Give a `StableDiffusionXLModel` its parts."""
    torch.manual_seed(0)
    model.unet = UNet2DConditionModel(
        block_out_channels=(8, 8, 8),
        layers_per_block=2,
        transformer_layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        sample_size=8,
    )
    model.text_encoder_1 = CLIPTextModel(_text_config())
    model.text_encoder_2 = CLIPTextModelWithProjection(_text_config())
    model.vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=2, latent_channels=4)
    model.noise_scheduler = DDIMScheduler()
    model.tokenizer_1 = tokenizer(scratch)
    model.tokenizer_2 = tokenizer(scratch)


def fill_flux(model: Any, scratch: Path) -> None:
    """Give a `FluxModel` its transformer and the first text encoder; T5 may be left out."""
    torch.manual_seed(0)
    model.transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
    )
    model.text_encoder_1 = CLIPTextModel(_text_config())
    model.text_encoder_2 = None
    model.vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=2, latent_channels=4)
    model.tokenizer_1 = tokenizer(scratch)
    model.tokenizer_2 = None


def tokenizer(scratch: Path) -> CLIPTokenizer:
    """Return a tokenizer of single letters."""
    directory = scratch / "tokenizer"
    directory.mkdir(exist_ok=True)
    letters = [f"{letter}</w>" for letter in string.ascii_lowercase]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *string.ascii_lowercase]
    vocabulary = {word: at for at, word in enumerate(words)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(str(directory / "vocab.json"), str(directory / "merges.txt"))


class Batches:
    """A data loader and its data set: a few random latents, the same each epoch."""

    def __init__(self, count: int, *, spoiled: bool = False) -> None:
        self._count = count
        self._spoiled = spoiled

    def get_data_set(self) -> Batches:
        return self

    def get_data_loader(self) -> Iterator[dict[str, object]]:
        for seed in range(self._count):
            latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
            yield {
                "latent_image": latents * float("nan") if self._spoiled else latents,
                "text_encoder_hidden_state": torch.ones(1, TOKENS, WIDTH),
                "tokens": torch.tensor([[0, 3, 4] + [1] * (TOKENS - 3)]),
                "loss_weight": torch.ones(1),
                "concept_type": ["STANDARD"],
            }

    def approximate_length(self) -> int:
        return self._count

    def start_next_epoch(self) -> None:
        """Do nothing: there is no cache to make."""


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=80,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
    )
