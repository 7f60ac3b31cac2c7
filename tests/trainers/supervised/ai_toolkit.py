"""ai-toolkit by `python run.py`, on a Flux of a few numbers."""

from __future__ import annotations

from types import MappingProxyType

import yaml
from case import Case, Trainer


def _case(**train: object) -> Case:
    process = {
        "type": "sd_trainer",
        "training_folder": "{here}/output",
        "device": "cpu",
        "model": {"name_or_path": "base", "arch": "flux"},
        "network": {"type": "lora", "linear": 4, "linear_alpha": 4},
        "save": {"dtype": "bf16", "save_every": 10, "max_step_saves_to_keep": 9},
        "train": {
            "dtype": "bf16",
            "steps": 40,
            "disable_sampling": True,
            "gradient_checkpointing": False,
            "noise_scheduler": "flowmatch",
            **train,
        },
    }
    job = {"job": "extension", "config": {"name": "cat", "process": [process]}}
    return Case(
        files={"cat.yaml": yaml.safe_dump(job)},
        command=("run.py", "{here}/cat.yaml"),
        act_on=("norm-explosion",),
    )


TRAINER = Trainer(
    checkout="ai-toolkit",
    repository="https://github.com/ostris/ai-toolkit",
    paths=("",),
    feeds="feeds_ai_toolkit",
    at_checkout=True,
    cases=MappingProxyType({"learning rate 1": _case(optimizer="adamw", lr=1.0)}),
)
