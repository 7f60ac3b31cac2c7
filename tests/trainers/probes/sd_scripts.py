"""sd-scripts: whole trainings of its own network trainer on modules of a few numbers.

Stood in for: torchvision (image transforms), `transformers.CLIPFeatureExtractor` (gone from
Transformers 5). Models, images and the loss are ours, everything else is its own: networks,
optimizers, metadata, savers, rotation, states and their resume. The clock stands still.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import sys
import time
from pathlib import Path

import diffusers.loaders.peft  # noqa: F401 - before torchvision is stood in for
import torch
import transformers
from _observing import Journal, options_of, versions
from _small_models import conv, linear, model
from _stubs import stand_in
from _writing import described
from accelerate.state import AcceleratorState

CHECKOUT = Path(sys.argv[1])
TRAINERS = {
    "sd1": ("train_network", "NetworkTrainer"),
    "sdxl": ("sdxl_train_network", "SdxlNetworkTrainer"),
    "flux": ("flux_train_network", "FluxNetworkTrainer"),
    "sd3": ("sd3_train_network", "Sd3NetworkTrainer"),
    "lumina": ("lumina_train_network", "LuminaNetworkTrainer"),
    "hunyuan_image": ("hunyuan_image_train_network", "HunyuanImageNetworkTrainer"),
    "anima": ("anima_train_network", "AnimaNetworkTrainer"),
}
COMMON = "--output_name cat --dataset_class __main__.Images --seed 7 "
COMMON += "--pretrained_model_name_or_path base --max_data_loader_n_workers 0 "
EVERY = COMMON + "--max_train_steps 4 --save_every_n_steps 1 --save_state "
ADAFACTOR = "--optimizer_type AdaFactor --optimizer_args relative_step=False warmup_init=False "
SHORT = COMMON + "--max_train_steps 2 --network_dim 2 --network_alpha 1 --learning_rate 1e-3 "
RUNS = {
    "lora": (
        "sd1",
        (
            f"{EVERY} --network_module networks.lora --network_dim 4 --network_alpha 2 "
            "--learning_rate 1e-3 --unet_lr 2e-3 --text_encoder_lr 5e-4 --mixed_precision bf16 "
            "--save_precision fp16 --optimizer_type AdamW --optimizer_args weight_decay=0.05 "
            "betas=0.9,0.95 --lr_scheduler constant_with_warmup --lr_warmup_steps 2 "
            "--network_args conv_dim=2 conv_alpha=1 --save_last_n_steps 2 --fp8_base"
        ),
    ),
    "resumed": (
        "sd1",
        (
            f"{COMMON} --max_train_steps 6 --network_module networks.lora --network_dim 4 "
            "--network_alpha 2 --learning_rate 3e-3 --unet_lr 3e-3 --text_encoder_lr 3e-3 "
            "--mixed_precision no --optimizer_type AdamW --optimizer_args weight_decay=0.5 "
            "--lr_scheduler constant_with_warmup --lr_warmup_steps 2 "
            "--network_args conv_dim=2 conv_alpha=1 --output_name again --save_state_on_train_end "
            "--resume lora/cat-step00000003-state"
        ),
    ),
    "weights only": (
        "sd1",
        (
            f"{COMMON} --max_train_steps 2 --network_module networks.lora --learning_rate 3e-3 "
            "--optimizer_type AdamW --optimizer_args weight_decay=0.5 --output_name weights "
            "--network_weights lora/cat.safetensors --dim_from_weights --save_state_on_train_end "
            "--no_metadata"
        ),
    ),
    "full bf16": (
        "sd1",
        (
            f"{SHORT} --network_module networks.lora --full_bf16 "
            f"--mixed_precision bf16 {ADAFACTOR} scale_parameter=False --save_every_n_epochs 1 "
            "--max_train_epochs 3 --save_state "
            "--save_last_n_epochs 1 --network_train_unet_only --output_name epochs"
        ),
    ),
    "prodigy": (
        "sd1",
        (
            f"{SHORT} --network_module networks.lora --full_bf16 --mixed_precision bf16 "
            "--optimizer_type Prodigy --optimizer_args d_coef=2.0 --lr_scheduler cosine "
            "--output_name prodigy --save_state_on_train_end"
        ),
    ),
    "as trained": ("sd1", f"{SHORT} --network_module networks.lora --save_model_as pt"),
    "lora_fa": ("sd1", f"{SHORT} --network_module networks.lora_fa"),
    "dylora": ("sd1", f"{SHORT} --network_module networks.dylora --network_args unit=1"),
    "oft": (
        "sd1",
        (
            f"{COMMON} --max_train_steps 2 --network_module networks.oft --network_dim 2 "
            "--network_alpha 1e-3 --network_train_unet_only --network_args enable_all_linear=True"
        ),
    ),
    "lycoris lokr": (
        "sd1",
        (
            f"{SHORT} --network_module lycoris.kohya --network_args algo=lokr "
            "preset=attn-mlp use_scalar=True"
        ),
    ),
    "sdxl": ("sdxl", f"{SHORT} --network_module networks.lora --no_half_vae"),
    "flux": (
        "flux",
        (
            f"{SHORT} --network_module networks.lora_flux --fp8_base "
            "--mixed_precision bf16 --network_args train_t5xxl=True"
        ),
    ),
    "flux split_qkv": (
        "flux",
        (
            f"{SHORT} --network_module networks.lora_flux "
            "--network_train_unet_only --network_args split_qkv=True "
            "train_blocks=single"
        ),
    ),
    "flux split_qkv in double blocks": (
        "flux",
        (
            f"{SHORT} --network_module networks.lora_flux "
            "--network_train_unet_only --network_args split_qkv=True"
        ),
    ),
    "flux oft": (
        "flux",
        (
            f"{COMMON} --max_train_steps 2 --network_module networks.oft_flux "
            "--network_dim 1536 --network_alpha 1e-3 --network_train_unet_only "
            "--network_args enable_all_linear=True"
        ),
    ),
    "sd3": ("sd3", f"{SHORT} --network_module networks.lora_sd3 --network_train_unet_only"),
    "lumina": (
        "lumina",
        f"{SHORT} --network_module networks.lora_lumina --network_train_unet_only",
    ),
    "hunyuan_image": (
        "hunyuan_image",
        f"{SHORT} --network_module networks.lora_hunyuan_image --network_train_unet_only",
    ),
    "anima": (
        "anima",
        f"{SHORT} --network_module networks.lora_anima --network_train_unet_only --qwen3 none",
    ),
}


def enter() -> None:
    """Make sd-scripts importable, and let the clock stand still."""
    sys.path.insert(0, str(CHECKOUT))
    sys.modules["transformers"].CLIPFeatureExtractor = transformers.CLIPImageProcessor
    stand_in("torchvision")
    time.time = lambda: 1_780_000_000.0


def main() -> None:
    """Run every training and say what it wrote."""
    enter()
    with contextlib.redirect_stdout(sys.stderr):
        runs = {name: run(name, *what) for name, what in RUNS.items()}
        parsers = {family: parser_of(family) for family in TRAINERS}
    print(
        json.dumps(
            {
                "repository": "kohya-ss/sd-scripts",
                "runs": runs,
                "options": parsers,
                "versions": versions(),
            }
        )
    )


def parser_of(family: str) -> object:
    """Return what the options of a family add to those of `train_network.py`."""
    base = options_of(importlib.import_module("train_network").setup_parser())
    own = options_of(importlib.import_module(TRAINERS[family][0]).setup_parser())
    return own if family == "sd1" else {k: v for k, v in own.items() if base.get(k) != v}


def run(name: str, family: str, options: str) -> dict[str, object]:
    """Train, and return the files it left, the order it wrote them in, and where it began."""
    module, kind = TRAINERS[family]
    scripts = importlib.import_module(module)
    trainer = type("Tiny", (Tiny, getattr(scripts, kind)), {"family": family})()
    root = Path(name.replace(" ", "-"))
    words = ["--output_dir", str(root), *options.split()]
    args = scripts.setup_parser().parse_args(words)
    journal = Journal(root)
    AcceleratorState._reset_state(reset_partial_state=True)
    random.seed(7)
    torch.manual_seed(7)
    try:
        with journal.watching():
            trainer.train(args)
    except Exception as error:  # noqa: BLE001 - that it cannot be done is a fact as well
        return {"arguments": " ".join(words), "error": f"{type(error).__name__}: {error}"}
    return {
        "arguments": " ".join(words),
        "files": described(root),
        "order": journal.events,
        "zero_at_start": trainer.zero_at_start,
    }


class Tiny:
    """The hooks that sd-scripts gives to its trainers for other models, filled with tiny ones."""

    family = "sd1"
    zero_at_start = None
    model_type = "medium"

    def load_target_model(self, args, weight_dtype, accelerator):
        """Return a version, text encoders, autoencoder and the model to train."""
        del args, weight_dtype, accelerator
        encoders = [encoder(), *([encoder()] if self.family == "sdxl" else [])]
        encoders += [t5_encoder()] if self.family == "flux" else []
        return self.family, encoders, model("Vae", {"x": linear()}), backbone(self.family)

    def get_tokenize_strategy(self, args):
        """Need no tokenizer: the batches are made here."""

    get_latents_caching_strategy = get_text_encoding_strategy = get_tokenize_strategy
    get_text_encoder_outputs_caching_strategy = get_tokenizers = get_tokenize_strategy

    def cache_text_encoder_outputs_if_needed(self, *arguments):
        """Cache nothing."""

    sample_images = cache_text_encoder_outputs_if_needed

    def prepare_unet_with_accelerator(self, args, accelerator, unet):
        """Prepare the model as the base class does."""
        del args
        return accelerator.prepare(unet)

    def process_batch(self, batch, text_encoders, unet, network, *rest, **named):
        """Return a loss that reaches every parameter; note which are zero before the first."""
        del batch, rest, named
        if self.zero_at_start is None:
            state = network.state_dict()
            self.zero_at_start = sorted(key for key, value in state.items() if not value.any())
        loss = sum(one(torch.arange(4)[None]).last_hidden_state.mean() for one in text_encoders)
        return loss + unet(torch.ones(1, 8, 8, 8)).mean()


def Images(*_arguments: object) -> object:  # noqa: N802 - named as a class in `--dataset_class`
    """Return a data set of two batches in sd-scripts' own class for foreign ones."""
    train_util = importlib.import_module("library.train_util")

    class Two(train_util.MinimalDataset):
        def __init__(self):
            super().__init__((8, 8), 1.0)
            self.num_train_images = 2
            self.tag_frequency = {}

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"images": torch.zeros(1, 3, 8, 8), "index": index}

    return Two()


def encoder() -> torch.nn.Module:
    """Return a text encoder of CLIP's class, one layer of eight features."""
    config = transformers.CLIPTextConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    return transformers.CLIPTextModel(config)


def t5_encoder() -> torch.nn.Module:
    """Return a text encoder of T5's class."""
    config = transformers.T5Config(
        vocab_size=8,
        d_model=8,
        d_kv=8,
        d_ff=8,
        num_layers=1,
        num_heads=1,
        feed_forward_proj="gated-gelu",
    )
    return transformers.T5EncoderModel(config)


def backbone(family: str) -> torch.nn.Module:
    """Return the model to train, its classes and paths as the family's network looks for them."""
    flux_double = {
        "img_attn.qkv": linear(outputs=9216),
        "img_attn.proj": linear(outputs=3072),
        "img_mlp.0": linear(outputs=3072),
        "img_mod.lin": linear(outputs=3072),
    }
    flux_single = {
        "linear1": linear(outputs=21504),
        "linear2": linear(outputs=3072),
        "modulation.lin": linear(outputs=3072),
    }
    attention = ("CrossAttention", {"to_q": linear(), "to_out.0": linear()})
    unet = {
        "down_blocks.0.attentions.0": (
            "Transformer2DModel",
            {
                "proj_in": conv(1),
                "transformer_blocks.0.attn1": attention,
                "transformer_blocks.0.ff.net.0.proj": linear(),
            },
        ),
        "down_blocks.0.resnets.0": ("ResnetBlock2D", {"conv1": conv(3)}),
    }
    plans = {
        "sd1": unet,
        "sdxl": unet,
        "flux": {
            "double_blocks.0": ("DoubleStreamBlock", flux_double),
            "single_blocks.0": ("SingleStreamBlock", flux_single),
        },
        "sd3": {
            "joint_blocks.0.x_block": (
                "SingleDiTBlock",
                {"attn.qkv": linear(), "mlp.fc1": linear()},
            )
        },
        "lumina": {"layers.0": ("JointTransformerBlock", {"attention.qkv": linear(outputs=24)})},
        "hunyuan_image": {
            "double_blocks.0": ("MMDoubleStreamBlock", {"img_attn_q": linear()}),
            "single_blocks.0": ("MMSingleStreamBlock", {"linear1_q": linear()}),
        },
        "anima": {"blocks.0": ("Block", {"self_attn.q_proj": linear()})},
    }
    return model("Backbone", plans[family])


if __name__ == "__main__":
    main()
