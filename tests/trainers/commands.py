"""Commands and configurations as users of each trainer write them, and the plans they get."""

from __future__ import annotations

import json
from pathlib import Path

from sentinel.repairs.plan import Plan
from sentinel.repairs.recipes import Recipe, load_recipes

RECIPES = load_recipes()

ONETRAINER = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "workspace_dir": "workspace/cat",
    "continue_last_backup": False,
    "train_dtype": "FLOAT_16",
    "lora_weight_dtype": "FLOAT_16",
    "learning_rate": 1.0,
    "learning_rate_scheduler": "ADAFACTOR",
    "optimizer": {"optimizer": "ADAFACTOR", "scale_parameter": True, "relative_step": True},
    "unet": {"train": True, "weight_dtype": "FLOAT_16"},
}
SIMPLETUNER = {
    "--model_type": "lora",
    "--model_family": "flux",
    "--data_backend_config": "config/data.json",
    "--output_dir": "output/cat",
    "--optimizer": "adamw_bf16",
    "--optimizer_config": "eps=1e-6",
    "--mixed_precision": "fp16",
    "--learning_rate": 1e-4,
    "--lora_rank": 16,
    "--resume_from_checkpoint": "latest",
}
AI_TOOLKIT = """\
job: extension
config:
  name: cat
  process:
  - type: sd_trainer
    training_folder: output
    network: {type: lora, linear: 16, linear_alpha: 16}
    save: {dtype: float16, save_every: 250}
    train: {steps: 2000, lr: 1e-4, optimizer: adafactor, dtype: fp16, batch_size: 1}
    model: {name_or_path: base, is_flux: true}
"""
AXOLOTL = """\
base_model: NousResearch/Llama-3.2-1B
datasets: [{path: teknium/GPT4-LLM-Cleaned, type: alpaca}]
adapter: lora
lora_r: 16
micro_batch_size: 2
num_epochs: 1
optimizer: adamw_torch
learning_rate: 2e-4
fp16: true
output_dir: ./outputs/cat
"""
LLAMA_FACTORY = """\
model_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
dataset: identity
output_dir: saves/cat
per_device_train_batch_size: 1
learning_rate: 1.0e-4
lr_scheduler_type: cosine
fp16: true
"""
SD_SCRIPTS = """\
[model]
pretrained_model_name_or_path = "base.safetensors"

[network]
network_module = "networks.lora"
network_dim = 16

[training]
output_dir = "out"
output_name = "cat"
optimizer_type = "AdaFactor"
optimizer_args = ["relative_step=True", "scale_parameter=True"]
learning_rate = 1e-3
unet_lr = 1e-3
full_fp16 = true
mixed_precision = "fp16"
"""
MINICPM = """\
#!/bin/bash
MODEL="openbmb/MiniCPM-V-2_6"
DISTRIBUTED_ARGS="--nproc_per_node 8"

torchrun $DISTRIBUTED_ARGS finetune.py  \\
    --model_name_or_path $MODEL \\
    --llm_type qwen --max_slice_nums 9 \\
    --data_path "my data.json" \\
    --bf16 false \\
    --bf16_full_eval false \\
    --fp16 true \\
    --fp16_full_eval true \\
    --do_train \\
    --tune_vision true \\
    --use_lora true \\
    --output_dir output/lora \\
    --learning_rate 1e-6 \\
    --report_to "tensorboard" # wandb
"""
TRANSFORMERS = (
    *("python", "train.py", "--model_name_or_path", "base", "--output_dir", "out"),
    *("--per_device_train_batch_size", "2", "--learning_rate=1e-3", "--fp16", "--dtype"),
    *("float16", "--optim_args", "eps=1e-6,betas=(0.9,0.99)", "--do_train"),
)
DIFFUSERS = (
    *("accelerate", "launch", "--mixed_precision=fp16", "train_dreambooth_lora_flux.py"),
    *("--pretrained_model_name_or_path=base", "--output_dir=out", "--mixed_precision=fp16"),
    *("--rank=16", "--checkpointing_steps=500", "--learning_rate=1e-4"),
)
MUSUBI = (
    *("accelerate", "launch", "wan_train_network.py", "--dit", "wan.safetensors"),
    *("--network_module", "networks.lora_wan", "--mixed_precision", "fp16"),
    *("--optimizer_args", "scale_parameter=True", "weight_decay=0.01"),
    *("--learning_rate", "1e-3", "--output_dir", "out", "--output_name", "cat"),
)
TARGETS = {
    "onetrainer": "workspace/cat/backup/2026-01-02_03-04-05-backup-20-0-20",
    "ai-toolkit": "output/cat/cat_000000500.safetensors",
    "sd-scripts": "out/cat-step00000500.safetensors",
    "musubi-tuner": "out/cat-step00000500-state",
}
"""Where a trainer's checkpoint lies; elsewhere `out/checkpoint-20`."""


def command_of(trainer: str, place: Path) -> tuple[str, ...]:
    """Return a trainer's command, with the configuration it names written to ``place``."""
    files = {
        "onetrainer": ("train.json", json.dumps(ONETRAINER)),
        "simpletuner": ("config/cat/config.json", json.dumps(SIMPLETUNER)),
        "ai-toolkit": ("cat.yaml", AI_TOOLKIT),
        "axolotl": ("cat.yml", AXOLOTL),
        "llama-factory": ("cat.yaml", LLAMA_FACTORY),
        "sd-scripts": ("cat.toml", SD_SCRIPTS),
        "minicpm-v": ("finetune_lora.sh", MINICPM),
    }
    if trainer in files:
        name, text = files[trainer]
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    return {
        "onetrainer": ("python", "scripts/train.py", "--config-path", "train.json"),
        "simpletuner": ("simpletuner", "train", "--env", "cat"),
        "ai-toolkit": ("python", "run.py", "cat.yaml"),
        "axolotl": ("axolotl", "train", "cat.yml", "--learning-rate", "2e-4"),
        "llama-factory": ("llamafactory-cli", "train", "cat.yaml", "learning_rate=1e-4"),
        "sd-scripts": (
            *("accelerate", "launch", "--num_cpu_threads_per_process", "1", "train_network.py"),
            *("--config_file", "cat", "--output_name", "cat", "--full_fp16"),
        ),
        "musubi-tuner": MUSUBI,
        "minicpm-v": ("bash", "finetune_lora.sh"),
        "transformers": TRANSFORMERS,
        "diffusers": DIFFUSERS,
    }[trainer]


def recipe_of(trainer: str) -> Recipe:
    """Return one of the bundled recipes."""
    return next(recipe for recipe in RECIPES if recipe.id == trainer)


def plan_of(trainer: str, place: Path, **parts: object) -> Plan:
    """Return a plan from the trainer's checkpoint; the fresh directory is `fresh/2`."""
    target = place / TARGETS.get(trainer, "out/checkpoint-20")
    facts: dict[str, object] = {
        "rules": ("nan-values",),
        "target": "c20",
        "target_path": str(target),
        "target_step": 20,
        "precision": None,
        "optimizer": "drop",
        "reason": "because",
        "steps_lost": 10,
        "output": str(place / "fresh" / "2"),
        "number": 2,
    }
    return Plan(**(facts | parts))
