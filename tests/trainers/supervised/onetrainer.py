"""OneTrainer by `python scripts/train.py`, on a Stable Diffusion of a few numbers."""

from __future__ import annotations

import json
from types import MappingProxyType

from case import Case, Trainer

_COMMON = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "toy/stable-diffusion",
    "workspace_dir": "{here}/ws",
    "cache_dir": "{here}/cache",
    "concept_file_name": "{here}/concepts.json",
    "sample_definition_file_name": "{here}/samples.json",
    "tensorboard": False,
    "train_device": "cpu",
    "temp_device": "cpu",
    "train_dtype": "FLOAT_32",
    "lora_weight_dtype": "FLOAT_32",
    "epochs": 6,
    "learning_rate": 1e-3,
    "learning_rate_scheduler": "CONSTANT",
    "learning_rate_warmup_steps": 0,
    "sample_after_unit": "NEVER",
    "backup_after": 10,
    "backup_after_unit": "STEP",
    "backup_before_save": False,
    "lora_rank": 4,
    "lora_alpha": 4.0,
    "layer_filter": "attn",
    "layer_filter_preset": "custom",
    "text_encoder": {"train": False},
    "output_model_format": "KOHYA_LORA",
    "output_model_destination": "{here}/last.safetensors",
    "optimizer": {"optimizer": "ADAMW", "eps": 1e-8, "fused": False},
}
_PRODIGY = {"optimizer": "PRODIGY", "d0": 1e-6, "d_coef": 1.0, "eps": 1e-8}
_ADAFACTOR = {
    "optimizer": "ADAFACTOR",
    "scale_parameter": True,
    "relative_step": True,
    "eps": 1e-30,
    "eps2": 1e-3,
    "clip_threshold": 1.0,
    "decay_rate": -0.8,
}

_ACT_ON = ("norm-explosion", "prodigy-stuck", "adafactor-scale-parameter", "stalled-elements")
_BRAIN = {"lora_weight_dtype": "BFLOAT_16", "train_dtype": "BFLOAT_16"}
_DYING = {
    "lora_weight_dtype": "FLOAT_16",
    "train_dtype": "BFLOAT_16",
    "backup_after": 1,  # OneTrainer itself ends at the NaN that follows
    "epochs": 1,
}


def _case(**changes: object) -> Case:
    return Case(
        files={
            "concepts.json": "[]",
            "samples.json": "[]",
            "cat.json": json.dumps({**_COMMON, **changes}, indent=4),
        },
        command=("scripts/train.py", "--config-path", "{here}/cat.json"),
        act_on=_ACT_ON,
    )


TRAINER = Trainer(
    checkout="OneTrainer",
    repository="https://github.com/Nerogar/OneTrainer",
    paths=("", "scripts"),
    feeds="feeds_onetrainer",
    at_checkout=True,
    cases=MappingProxyType(
        {
            "Prodigy on FLOAT_16": _case(**_DYING, learning_rate=1.0, optimizer=_PRODIGY),
            "AdamW on FLOAT_16": _case(**_DYING),
            "BFLOAT_16 at 1e-6": _case(**_BRAIN, learning_rate=1e-6),
            "learning rate 3": _case(learning_rate=3.0),
            "Prodigy at 1e-4": _case(learning_rate=1e-4, optimizer=_PRODIGY),
            "Adafactor by itself": _case(
                optimizer=_ADAFACTOR, learning_rate_scheduler="ADAFACTOR", learning_rate=1e-3
            ),
        }
    ),
)
