"""musubi-tuner: whole trainings of its own network trainers on modules of a few numbers.

Stood in for: torchvision (image transforms), the number of a CUDA device. Models, data set and the
loss are ours, everything else is its own: networks, optimizers, metadata, savers, rotation, states
and their resume. The clock stands still.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import random
import sys
import time
from pathlib import Path

import diffusers.loaders.peft  # noqa: F401 - before torchvision is stood in for
import torch
from _observing import Journal, options_of, versions
from _small_models import linear, model
from _stubs import stand_in
from _writing import described
from accelerate.state import AcceleratorState
from safetensors.torch import save_file

CHECKOUT = Path(sys.argv[1])
TRAINERS = {
    "hunyuan_video": ("hv_train_network", "HunyuanVideoNetworkTrainer", "hv_setup_parser"),
    "hunyuan_video_1_5": (
        "hv_1_5_train_network",
        "HunyuanVideo15NetworkTrainer",
        "hv1_5_setup_parser",
    ),
    "wan": ("wan_train_network", "WanNetworkTrainer", "wan_setup_parser"),
    "framepack": ("fpack_train_network", "FramePackNetworkTrainer", "framepack_setup_parser"),
    "flux_kontext": (
        "flux_kontext_train_network",
        "FluxKontextNetworkTrainer",
        "flux_kontext_setup_parser",
    ),
    "flux_2": ("flux_2_train_network", "Flux2NetworkTrainer", "flux2_setup_parser"),
    "qwen_image": (
        "qwen_image_train_network",
        "QwenImageNetworkTrainer",
        "qwen_image_setup_parser",
    ),
    "zimage": ("zimage_train_network", "ZImageNetworkTrainer", "zimage_setup_parser"),
    "kandinsky5": (
        "kandinsky5_train_network",
        "Kandinsky5NetworkTrainer",
        "kandinsky5_setup_parser",
    ),
    "krea2": ("krea2_train_network", "Krea2NetworkTrainer", "krea2_setup_parser"),
    "hidream_o1": (
        "hidream_o1_train_network",
        "HiDreamO1NetworkTrainer",
        "hidream_o1_setup_parser",
    ),
    "ideogram4": ("ideogram4_train_network", "Ideogram4NetworkTrainer", "ideogram4_setup_parser"),
}
BLOCKS = {
    "hunyuan_video": "MMDoubleStreamBlock",
    "hunyuan_video_1_5": "MMDoubleStreamBlock",
    "wan": "WanAttentionBlock",
    "framepack": "HunyuanVideoTransformerBlock",
    "flux_kontext": "DoubleStreamBlock",
    "flux_2": "DoubleStreamBlock",
    "qwen_image": "QwenImageTransformerBlock",
    "zimage": "ZImageTransformerBlock",
    "kandinsky5": "TransformerDecoderBlock",
    "krea2": "Block",
    "hidream_o1": "Qwen3VLTextDecoderLayer",
    "ideogram4": "Ideogram4TransformerBlock",
}
NETWORKS = {
    "hunyuan_video": "lora",
    "hunyuan_video_1_5": "lora_hv_1_5",
    "flux_kontext": "lora_flux",
    "kandinsky5": "lora_kandinsky",
}
ASKED_FOR_THEIR_DTYPE = ("blocks.0.cross_attn.k.weight", "double_blocks.0.img_attn_k.weight")
COMMON = "--output_name cat --seed 7 --dataset_config none --dit base.safetensors --sdpa "
COMMON += "--optimizer_type AdamW --max_data_loader_n_workers 0 --learning_rate 1e-3 "
COMMON += "--network_dim 2 --network_alpha 1 "
OPTIONS = {"wan": "--fp8_base --fp8_scaled", "kandinsky5": "--task k5-lite-t2v-5s-sd"}
RUNS = {
    "lora": (
        "hunyuan_video",
        (
            f"{COMMON} --max_train_steps 4 --save_every_n_steps 1 --save_state "
            "--save_last_n_steps 2 --network_module networks.lora --mixed_precision bf16 "
            "--save_precision fp16 --fp8_base "
            "--optimizer_type AdamW --optimizer_args weight_decay=0.05 betas=0.9,0.95 "
            "--lr_scheduler constant_with_warmup --lr_warmup_steps 2"
        ),
    ),
    "resumed": (
        "hunyuan_video",
        (
            f"{COMMON} --max_train_steps 2 --output_name again --save_state_on_train_end "
            "--network_module networks.lora --learning_rate 3e-3 --optimizer_type AdamW "
            "--optimizer_args weight_decay=0.5 --lr_scheduler constant_with_warmup "
            "--lr_warmup_steps 2 --resume lora/cat-step00000003-state"
        ),
    ),
    "weights only": (
        "hunyuan_video",
        (
            f"{COMMON} --max_train_steps 2 --network_module networks.lora --learning_rate 3e-3 "
            "--optimizer_type AdamW --optimizer_args weight_decay=0.5 --save_state_on_train_end "
            "--network_weights lora/cat.safetensors --no_metadata"
        ),
    ),
    "epochs": (
        "hunyuan_video",
        (
            f"{COMMON} --max_train_epochs 3 --save_every_n_epochs 1 --save_state "
            "--save_last_n_epochs 1 --network_module networks.lora --optimizer_type AdaFactor "
            "--optimizer_args relative_step=False warmup_init=False scale_parameter=False "
            "--mixed_precision bf16 --save_precision bf16"
        ),
    ),
    "loha": ("hunyuan_video", f"{COMMON} --max_train_steps 2 --network_module networks.loha"),
    "lokr": ("hunyuan_video", f"{COMMON} --max_train_steps 2 --network_module networks.lokr"),
    "lokr decomposed": (
        "hunyuan_video",
        (
            f"{COMMON} --max_train_steps 2 --network_module networks.lokr --network_dim 1 "
            "--network_args factor=2"
        ),
    ),
    **{
        family: (
            family,
            (
                f"{COMMON} --max_train_steps 2 --mixed_precision bf16 {OPTIONS.get(family, '')} "
                f"--network_module networks.{NETWORKS.get(family, f'lora_{family}')}"
            ),
        )
        for family in TRAINERS
        if family != "hunyuan_video"
    },
}


def main() -> None:
    """Run every training and say what it wrote."""
    sys.path.insert(0, str(CHECKOUT / "src"))
    stand_in("torchvision")
    torch.cuda.current_device = lambda: "cpu"
    base = {key: torch.zeros(1, dtype=torch.bfloat16) for key in ASKED_FOR_THEIR_DTYPE}
    save_file(base, "base.safetensors")
    time.time = lambda: 1_780_000_000.0
    with contextlib.redirect_stdout(sys.stderr):
        runs = {name: run(name, *what) for name, what in RUNS.items()}
        parsers = {family: options_of(parser_of(family)) for family in TRAINERS}
    first = parsers["hunyuan_video"]
    for family in TRAINERS:
        if family != "hunyuan_video":
            own = parsers[family]
            parsers[family] = {key: own[key] for key in own if first.get(key) != own[key]}
    print(
        json.dumps(
            {
                "repository": "kohya-ss/musubi-tuner",
                "runs": runs,
                "options": parsers,
                "versions": versions(),
            }
        )
    )


def parser_of(family: str) -> object:
    """Return the whole parser of a family."""
    module, _, setup = TRAINERS[family]
    common = importlib.import_module("musubi_tuner.training.parser_common").setup_parser_common()
    return getattr(importlib.import_module(f"musubi_tuner.{module}"), setup)(common)


def run(name: str, family: str, options: str) -> dict[str, object]:
    """Train, and return the files it left, the order it wrote them in, and where it began."""
    module, kind, _ = TRAINERS[family]
    script = importlib.import_module(f"musubi_tuner.{module}")
    own = getattr(script, kind)
    tiny = type("Tiny", (Tiny, own), {"family": family})
    root = Path(name.replace(" ", "-"))
    words = ["--output_dir", str(root), *options.split()]
    journal = Journal(root)
    AcceleratorState._reset_state(reset_partial_state=True)
    random.seed(7)
    torch.manual_seed(7)
    sys.argv[1:] = words
    setattr(script, kind, tiny)
    with journal.watching():
        script.main()
    setattr(script, kind, own)
    return {
        "arguments": " ".join(words),
        "files": described(root),
        "order": journal.events,
        "zero_at_start": tiny.zero_at_start,
    }


class Tiny:
    """The hooks that musubi-tuner gives to its trainers, filled with a tiny model."""

    family = ""
    zero_at_start = None

    def _build_dataset(self, args):
        del args
        self.num_timestep_buckets = None
        return Batches(), lambda examples: examples[0], multiprocessing.Value("i", 0)

    def load_transformer(self, *_arguments):
        """Return a model with the one block that this family's network looks for."""
        block = {
            "self_attn.q": linear(),
            "self_attention.to_query": linear(),
            "attention.wq": linear(),
        }
        built = model("Backbone", {"blocks.0": (BLOCKS[self.family], block)})
        built.hidream_o1_task = "t2i"
        return built

    def scale_shift_latents(self, latents):
        """Leave the latents as they are."""
        return latents

    def process_batch(self, args, accelerator, transformer, network, *rest):
        """Return a loss that reaches every parameter; note which are zero before the first."""
        del args, rest
        if self.zero_at_start is None:
            state = network.state_dict()
            type(self).zero_at_start = sorted(
                key for key, value in state.items() if not value.any()
            )
        with accelerator.autocast():
            return transformer(torch.ones(1, 8, 8, 8)).mean(), {}


class Batches(torch.utils.data.Dataset):
    """Two batches, with the questions that the trainer asks of its data sets."""

    num_train_items = 2
    batch_size = 1

    @property
    def datasets(self):
        """Return the only data set."""
        return [self]

    def get_metadata(self):
        """Return nothing: it would say resolutions and buckets."""
        return {}

    def set_max_train_steps(self, steps):
        """Need no number of steps."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"latents": torch.zeros(1, 8), "timesteps": None, "index": index}


if __name__ == "__main__":
    main()
