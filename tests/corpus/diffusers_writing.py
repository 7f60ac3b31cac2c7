"""Writing with diffusers: tiny denoisers, adapters as its scripts add them, and their savers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.models import seed_torch, trainable

if TYPE_CHECKING:
    import numpy as np

FILE = "pytorch_lora_weights.safetensors"
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
STEP = 30

_LORA = {"r": 4, "lora_alpha": 8}


def tiny_flux() -> Any:
    """A Flux transformer of one double and one single block."""
    return importlib.import_module("diffusers").FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )


def tiny_unet() -> Any:
    """A U-Net of Stable Diffusion's kind with two levels."""
    return importlib.import_module("diffusers").UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def tiny_text_encoder() -> Any:
    """A CLIP text model of one layer."""
    transformers = importlib.import_module("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=64,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
    )
    return transformers.CLIPTextModel(config)


def flux_loss(model: Any) -> Any:
    """One forward pass over noise."""
    torch = importlib.import_module("torch")
    found = model(
        hidden_states=torch.randn(1, 4, 4),
        encoder_hidden_states=torch.randn(1, 3, 32),
        pooled_projections=torch.randn(1, 32),
        timestep=torch.tensor([0.5]),
        img_ids=torch.zeros(4, 3),
        txt_ids=torch.zeros(3, 3),
        return_dict=False,
    )[0]
    return (found**2).mean()


def unet_loss(model: Any) -> Any:
    """One forward pass over noise."""
    torch = importlib.import_module("torch")
    context = torch.randn(1, 3, 8)
    found = model(torch.randn(1, 4, 8, 8), torch.tensor([3]), context, return_dict=False)[0]
    return (found**2).mean()


def learn(model: Any, loss: Callable[[Any], Any], optimizer: Any = None) -> Any:
    """Make three real updates."""
    torch = importlib.import_module("torch")
    own = torch.optim.AdamW(trainable(model), lr=1e-2) if optimizer is None else optimizer
    for _ in range(3):
        own.zero_grad()
        loss(model).backward()
        own.step()
    return own


def adapt(model: Any, targets: list[str], **options: object) -> None:
    """Add an adapter as the scripts do: the base frozen, matrices in the base's precision."""
    peft = importlib.import_module("peft")
    model.requires_grad_(requires_grad=False)
    model.add_adapter(peft.LoraConfig(**{**_LORA, "target_modules": targets, **options}))


def layers_of(model: Any) -> dict[str, Any]:
    """The adapter's state dict, as the scripts give it to a pipeline."""
    return importlib.import_module("peft").get_peft_model_state_dict(model)


def metadata_of(model: Any, component: str) -> dict[str, Any]:
    """What the scripts tell beside the weights."""
    utils = importlib.import_module("diffusers.training_utils")
    return utils._collate_lora_metadata({component: model})


def flux(
    place: Path,
    rng: np.random.Generator,
    *,
    trained: bool = True,
    told: bool = True,
    dtype: str = "float32",
    **options: object,
) -> Path:
    torch = seed_torch(rng)
    model = tiny_flux()
    adapt(model, TARGETS, **options)
    if trained:
        learn(model, flux_loss)
    model.to(getattr(torch, dtype))
    importlib.import_module("diffusers").FluxPipeline.save_lora_weights(
        place,
        transformer_lora_layers=layers_of(model),
        **(metadata_of(model, "transformer") if told else {}),
    )
    return place


def stable_diffusion(place: Path, rng: np.random.Generator) -> Path:
    """A U-Net's and a text encoder's adapter in one file, of different alphas."""
    seed_torch(rng)
    unet, text_encoder = tiny_unet(), tiny_text_encoder()
    adapt(unet, TARGETS)
    adapt(text_encoder, ["q_proj", "v_proj"], lora_alpha=2, init_lora_weights=False)
    learn(unet, unet_loss)
    importlib.import_module("diffusers").StableDiffusionPipeline.save_lora_weights(
        place,
        unet_lora_layers=layers_of(unet),
        text_encoder_lora_layers=layers_of(text_encoder),
        **metadata_of(unet, "unet"),
        **metadata_of(text_encoder, "text_encoder"),
    )
    return place


def kohya_keys(place: Path, rng: np.random.Generator) -> Path:
    """The adapter under kohya's keys, with an alpha beside each module."""
    seed_torch(rng)
    utils = importlib.import_module("diffusers.utils")
    save_file = importlib.import_module("safetensors.torch").save_file
    model = tiny_unet()
    adapt(model, TARGETS)
    learn(model, unet_loss)
    found = {f"unet.{name}": value for name, value in layers_of(model).items()}
    kohya = utils.convert_state_dict_to_kohya(utils.convert_all_state_dict_to_peft(found))
    save_file(kohya, place / "cat.safetensors")
    return place / "cat.safetensors"


def script(place: Path, rng: np.random.Generator, *, optimizer: str = "AdamW") -> Path:
    """`checkpoint-N` of a training script: a hook saves the LoRA, accelerate the rest."""
    torch = seed_torch(rng)
    diffusers = importlib.import_module("diffusers")
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    model = tiny_flux()
    adapt(model, TARGETS)
    kinds = {"AdamW": partial(torch.optim.AdamW, lr=1e-2)}
    kinds["prodigy"] = lambda given: importlib.import_module("prodigyopt").Prodigy(given)
    model, own = accelerator.prepare(model, kinds[optimizer](trainable(model)))

    def save(models: list[Any], weights: list[Any], output: str) -> None:
        diffusers.FluxPipeline.save_lora_weights(
            output,
            transformer_lora_layers=layers_of(models[0]),
            **metadata_of(models[0], "transformer"),
        )
        weights.pop()

    accelerator.register_save_state_pre_hook(save)
    learn(model, flux_loss, own)
    path = place / f"checkpoint-{STEP}"
    accelerator.save_state(str(path))
    return path


def whole_script(place: Path, rng: np.random.Generator) -> Path:
    """`checkpoint-N` of a script that trains all of a U-Net and keeps a moving average."""
    torch = seed_torch(rng)
    accelerator = importlib.import_module("accelerate").Accelerator(cpu=True)
    model = tiny_unet()
    model, own = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3))

    def save(models: list[Any], weights: list[Any], output: str) -> None:
        models[0].save_pretrained(Path(output) / "unet_ema")
        models[0].save_pretrained(Path(output) / "unet")
        weights.pop()

    accelerator.register_save_state_pre_hook(save)
    learn(model, unet_loss, own)
    path = place / f"checkpoint-{STEP}"
    accelerator.save_state(str(path))
    return path
