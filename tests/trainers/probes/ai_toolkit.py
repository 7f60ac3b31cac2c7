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

import torch
from _ai_toolkit_tiny import STAND_INS, trainer_class
from _observing import Journal, plain, versions
from _stubs import stand_in
from _writing import described

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
    stand_in(*STAND_INS)
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
