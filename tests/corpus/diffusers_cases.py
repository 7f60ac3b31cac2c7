"""What diffusers writes: a pipeline's LoRA, its scripts' checkpoints, kohya's keys."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official
from corpus.case import Case, Truth
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


def _flux(
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


def _stable_diffusion(place: Path, rng: np.random.Generator) -> Path:
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


def _kohya(place: Path, rng: np.random.Generator) -> Path:
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


def _script(place: Path, rng: np.random.Generator, *, optimizer: str = "AdamW") -> Path:
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


def _whole_script(place: Path, rng: np.random.Generator) -> Path:
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
        "usable": ("weights", "optimizer"),
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
    Case(id="diffusers/flux", write=_flux, truth=Truth(**FLUX), **_BASE),
    Case(
        id="diffusers/flux-start",
        write=partial(_flux, trained=False),
        truth=Truth(**{**FLUX, **_DOUBT}),
        **_BASE,
    ),
    Case(
        id="diffusers/flux-dora",
        write=partial(_flux, use_dora=True),
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
        write=partial(_flux, told=False),
        truth=Truth(**{**FLUX, **_UNTOLD}),
        **_BASE,
    ),
    *(
        Case(
            id=f"diffusers/flux-{dtype}",
            write=partial(_flux, dtype=dtype),
            truth=Truth(**FLUX),
            **_BASE,
        )
        for dtype in ("float16", "bfloat16")
    ),
    Case(
        id="diffusers/stable-diffusion",
        write=_stable_diffusion,
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
        write=_kohya,
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
        write=_script,
        truth=Truth(**{**FLUX, **_SCRIPT, "optimizer_parameters": 14}),
        **_BASE,
    ),
    Case(
        id="diffusers/script-prodigy",
        write=partial(_script, optimizer="prodigy"),
        truth=Truth(**{**FLUX, **_SCRIPT, "optimizer_parameters": 14}),
        writer="diffusers",
        needs=("diffusers", "peft", "prodigyopt"),
        read=official.in_file(FILE, official.safetensors),
    ),
    Case(
        id="diffusers/script-whole-model",
        write=_whole_script,
        truth=Truth(
            layout="accelerate-state",
            trainer="accelerate",
            complete=True,
            step=STEP,
            roles={"other": 208},
            usable=("weights", "optimizer"),
            optimizer_parameters=208,
        ),
        writer="diffusers",
        needs=("diffusers",),
        read=official.in_file("unet", official.safetensors),
    ),
)
