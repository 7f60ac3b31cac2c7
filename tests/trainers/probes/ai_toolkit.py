"""ai-toolkit: whole jobs of its own trainer on modules of a few numbers.

Stood in for: torchvision, albumentations, torchaudio, lpips (images, sound, losses). Models and
the loss are ours, everything else is its own: configuration, networks, optimizers, metadata,
savers, the choice of what to resume, rotation.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import random
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import diffusers.loaders.peft  # noqa: F401 - before torchvision is stood in for
import torch
import transformers
from _observing import Journal, plain, versions
from _small_models import conv, linear, model
from _stubs import stand_in
from _writing import described
from diffusers import FlowMatchEulerDiscreteScheduler

CHECKOUT = Path(sys.argv[1])
LORA = {"type": "lora", "linear": 4, "linear_alpha": 2}
LOKR = {"type": "lokr", "linear": 2, "linear_alpha": 1, "lokr_full_rank": False}
RUNS = {
    "flux": {
        "model": {"arch": "flux"},
        "network": LORA,
        "save": {"dtype": "bf16", "save_every": 2, "max_step_saves_to_keep": 2},
        "train": {
            "dtype": "bf16",
            "steps": 9,
            "lr": 1e-3,
            "optimizer": "adamw",
            "optimizer_params": {"weight_decay": 0.05},
        },
    },
    "flux resumed": {
        "folder": "flux",
        "model": {"arch": "flux"},
        "network": LORA,
        "save": {"dtype": "bf16", "save_every": 2, "max_step_saves_to_keep": 2},
        "train": {
            "dtype": "bf16",
            "steps": 12,
            "lr": 3e-3,
            "optimizer": "adamw",
            "optimizer_params": {"weight_decay": 0.5, "betas": [0.8, 0.9]},
        },
    },
    "sd1": {
        "model": {"arch": "sd1"},
        "network": {**LORA, "conv": 2, "conv_alpha": 1},
        "train": {"train_text_encoder": True, "optimizer": "prodigy"},
        "trigger_word": "cat",
    },
    "sdxl": {"model": {"arch": "sdxl"}, "network": LORA, "train": {"optimizer": "adafactor"}},
    "flux dora": {"model": {"arch": "flux"}, "network": {**LORA, "type": "dora"}},
    "flux lokr": {"model": {"arch": "flux"}, "network": LOKR},
    "flux lokr whole": {"model": {"arch": "flux"}, "network": {"type": "lokr"}},
    "flux lokr, old format": {
        "model": {"arch": "flux"},
        "network": {**LOKR, "old_lokr_format": True},
    },
    "flux fullrank": {"model": {"arch": "flux"}, "network": {**LORA, "type": "fullRank"}},
    "flux all layers": {"model": {"arch": "flux"}, "network": {**LORA, "all_layers": True}},
    "chroma": {"model": {"arch": "chroma"}, "network": LORA},
    "wan21": {"model": {"arch": "wan21"}, "network": LORA},
    "flux2": {"model": {"arch": "flux2"}, "network": LORA},
    "qwen_image": {"model": {"arch": "qwen_image"}, "network": LORA},
    "qwen_image lokr": {"model": {"arch": "qwen_image"}, "network": LOKR},
}


def main() -> None:
    """Run every job and say what it wrote."""
    sys.path.insert(0, str(CHECKOUT))
    stand_in("torchvision", "albumentations", "torchaudio", "lpips")
    importlib.import_module("diffusers.pipelines.ltx2.export_utils").encode_video = None
    with contextlib.redirect_stdout(sys.stderr):
        runs = {name: run(name, copy.deepcopy(what)) for name, what in RUNS.items()}
        said = {
            "configuration": configuration(),
            "optimizers": optimizers(),
            "choices": choices(Path("choices")),
        }
    print(
        json.dumps(
            {"repository": "ostris/ai-toolkit", "runs": runs, **said, "versions": versions()}
        )
    )


def run(name: str, what: dict) -> dict[str, object]:
    """Run a job, and return the files it left, their order, and which tensors began at zero."""
    folder = what.pop("folder", name.replace(" ", "-").replace(",", ""))
    process = {
        "type": "sd_trainer",
        "training_folder": folder,
        **what,
        "model": {"name_or_path": "base", **what["model"]},
        "train": {
            "steps": 3,
            "lr": 1e-3,
            "disable_sampling": True,
            "gradient_checkpointing": False,
            "noise_scheduler": "flowmatch",
            **what.get("train", {}),
        },
        "save": {"save_every": 2, **what.get("save", {})},
    }
    config = {"job": "extension", "config": {"name": "cat", "process": [process]}}
    Path("config.json").write_text(json.dumps(config), encoding="utf-8")
    journal = Journal(Path(folder))
    random.seed(7)
    torch.manual_seed(7)
    trainer = trainer_class()
    extension_job = importlib.import_module("jobs.ExtensionJob")
    extension_job.get_all_extensions_process_dict = lambda: {"sd_trainer": trainer}
    try:
        with journal.watching():
            importlib.import_module("toolkit.job").run_job("config.json")
    except Exception as error:  # noqa: BLE001 - that it cannot be done is a fact as well
        return {"process": process, "error": f"{type(error).__name__}: {error}"}
    return {
        "process": process,
        "files": described(Path(folder)),
        "order": journal.events,
        "began_at": trainer.began_at,
        "zero_at_start": trainer.zero_at_start,
    }


def choices(root: Path) -> dict[str, object]:
    """Return what is resumed from and what is removed, among files made one after the other."""
    names = ["cat_000000002.safetensors", "cat_000000004.safetensors", "cat_000000006.safetensors"]
    foreign = ["cat_000000004.repaired.safetensors", "cat.yaml", "cat_notes", "dog.safetensors"]
    process = importlib.import_module("jobs.process.BaseSDTrainProcess").BaseSDTrainProcess
    trainer = process.__new__(process)
    trainer.job = SimpleNamespace(name="cat")
    trainer.accelerator = SimpleNamespace(is_main_process=True)
    trainer.network_config = trainer.embed_config = trainer.sd = None
    trainer.save_root = str(root)
    trainer.save_config = SimpleNamespace(max_step_saves_to_keep=2)
    root.mkdir()
    latest = {}
    for at, name in enumerate([*names, *foreign]):
        (root / name).mkdir() if name == "cat_notes" else (root / name).write_bytes(b"")
        time.sleep(0.02)
        latest[f"{at} after {name}"] = Path(trainer.get_latest_save_path()).name
    (root / names[0]).chmod(0o600)
    latest["after chmod of the oldest"] = Path(trainer.get_latest_save_path()).name
    before = {path.name for path in root.iterdir()}
    trainer.clean_up_saves()
    return {"latest": latest, "removed": sorted(before - {path.name for path in root.iterdir()})}


def trainer_class() -> type:
    """Return ai-toolkit's own trainer with a loss that reaches every parameter."""
    process = importlib.import_module("jobs.process.BaseSDTrainProcess")
    own_model_class = importlib.import_module("toolkit.util.get_model").get_model_class
    process.get_model_class = lambda config: type("Tiny", (Tiny, own_model_class(config)), {})

    class Trainer(process.BaseSDTrainProcess):
        zero_at_start = None
        began_at = None

        def hook_train_loop(self, batch):
            del batch
            if self.zero_at_start is None:
                state = self.network.get_state_dict(dtype=torch.float32)
                type(self).zero_at_start = sorted(k for k, v in state.items() if not v.any())
                type(self).began_at = self.step_num
            self.optimizer.zero_grad()
            with self.network:
                loss = self.sd.unet(torch.ones(1, 8, 8, 8, dtype=self.sd.torch_dtype)).mean()
                for encoder in self.sd.text_encoder:
                    loss = loss + encoder(torch.arange(4)[None]).last_hidden_state.mean()
                loss.backward()
            self.optimizer.step()
            self.lr_scheduler.step()
            return {"loss": float(loss)}

    return Trainer


class Tiny:
    """Loads modules of a few numbers in place of a model's."""

    def load_model(self):
        """Set what the real function sets."""
        self.unet = self.model = backbone(self.arch)
        self.text_encoder = [encoder() for _ in range(2 if self.arch == "sdxl" else 1)]
        self.tokenizer = []
        self.vae = model("Vae", {"x": linear()})
        self.noise_scheduler = FlowMatchEulerDiscreteScheduler()

    def set_device_state(self, state):
        """Move nothing: everything lies in the same memory."""


def backbone(arch: str) -> torch.nn.Module:
    """Return the model to train, its classes and paths as the real one's."""
    unet = {
        "down_blocks.0.attentions.0": (
            "Transformer2DModel",
            {"proj_in": conv(1), "transformer_blocks.0.attn1.to_q": linear()},
        ),
        "down_blocks.0.resnets.0": ("ResnetBlock2D", {"conv1": conv(3)}),
    }
    block = (
        "Block",
        {"attn.to_q": linear(), "attn.norm_q": torch.nn.LayerNorm(8), "ff.0": linear()},
    )
    plans = {
        "flux": ("FluxTransformer2DModel", {"transformer_blocks.0": block}),
        "sd1": ("UNet2DConditionModel", unet),
        "sdxl": ("UNet2DConditionModel", unet),
        "chroma": ("Chroma", {"double_blocks.0": block}),
        "wan21": ("WanTransformer3DModel", {"blocks.0": block}),
        "flux2": ("Flux2", {"double_blocks.0": block}),
        "qwen_image": ("QwenImageTransformer2DModel", {"transformer_blocks.0": block}),
    }
    return model(*plans[arch])


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


def configuration() -> dict[str, object]:
    """Return the fields of the configuration's sections with their defaults."""
    modules = importlib.import_module("toolkit.config_modules")
    sections = {
        "network": modules.NetworkConfig(),
        "save": modules.SaveConfig(),
        "train": modules.TrainConfig(),
        "model": modules.ModelConfig(name_or_path="base"),
        "logging": modules.LoggingConfig(),
    }
    return {
        name: {key: plain(value) for key, value in sorted(vars(section).items())}
        for name, section in sections.items()
    }


def optimizers() -> dict[str, object]:
    """Return what ai-toolkit makes of an optimizer's name and the learning rate 1e-4."""
    get_optimizer = importlib.import_module("toolkit.optimizer").get_optimizer
    found = {}
    for name in ("adam", "adamw", "adamw8bit", "adafactor", "prodigy", "lion", "automagic"):
        made = get_optimizer([torch.nn.Parameter(torch.ones(2))], name, 1e-4, {})
        group = {
            key: plain(value) for key, value in made.param_groups[0].items() if key != "params"
        }
        found[name] = [f"{type(made).__module__}.{type(made).__name__}", group]
    return found


if __name__ == "__main__":
    main()
